// The letters of the PNG charts, drawn from DejaVu Sans, whose licence lets anyone use and embed it.
// Made by scripts/make-chart-font.py, which says what the bytes mean; nobody writes here by hand.

/** Height of a line, and of the part above the baseline, in pixels. */
export const lineHeight = 32
export const ascent = 25

/** The letters that there are, in the order of their cells. */
export const characters =
  ' !"#$%&\'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~¡¢£¤¥¦§¨©ª«¬®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ–—…−‘’“”•€'

/** How far each moves the pen. Its cell is two pixels wider. */
export const advances = [
  8, 10, 12, 22, 17, 25, 20, 7, 10, 10, 13, 22, 8, 9, 8, 9, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 9, 9, 22,
  22, 22, 14, 26, 18, 18, 18, 20, 16, 15, 20, 20, 8, 8, 17, 14, 22, 19, 20, 16, 20, 18, 17, 16, 19, 18, 26,
  18, 16, 18, 10, 9, 10, 22, 13, 13, 16, 17, 14, 17, 16, 9, 17, 16, 7, 7, 15, 7, 25, 16, 16, 17, 17, 11, 14,
  10, 16, 15, 21, 15, 15, 14, 17, 9, 17, 22, 10, 17, 17, 17, 17, 9, 13, 13, 26, 12, 16, 22, 26, 13, 13, 22,
  10, 10, 13, 17, 17, 8, 13, 10, 12, 16, 25, 25, 25, 14, 18, 18, 18, 18, 18, 18, 25, 18, 16, 16, 16, 16, 8, 8,
  8, 8, 20, 19, 20, 20, 20, 20, 20, 22, 20, 19, 19, 19, 19, 16, 16, 16, 16, 16, 16, 16, 16, 16, 26, 14, 16,
  16, 16, 16, 7, 7, 7, 7, 16, 16, 16, 16, 16, 16, 16, 22, 16, 16, 16, 16, 16, 15, 17, 15, 13, 26, 26, 22, 8,
  8, 13, 13, 15, 17,
]

/** The cells, deflated, in base64. */
export const cells =
  'eNrtPW10W8WV8yTZkiXZURICbIlt5bSFUMA2/cW2JTL9sad8yumf3VJAbnv2o5SN3Hb3FxQ5abt7ugvIpe32D0HultKzP0CmlLDn' +
  '7B5kCi30B1HCNqUUiGySQiGOX+JvWx+zcz9mnuzYjp34Q/6YcyzfN2/evHl37ty5c++dO0Ksh9Q4scjfcfjdgr91Y/g7Cr+1Iwut' +
  'fxmSb0pkOhbzb12nbKslQwRaJeHJc3ZVXvjGGa4ZF8FhhmuHRWMfQklJqXcGLESqQ+RauHyuRdVKyVUSVVMMV0+JGqQHsYUfHZ0B' +
  'C9HcJ+LdXF4B6XaGFZALM2yHXUUG3UVRPVlJmPX2auiBmVnug3LgO5gBnwuDwSOffWj7/YC1dC+XCk7oB7PdnOWTHZxVL08fIyR8' +
  'QtXwMvXf16Qc4zdeavfzGz2yjRuxZZSzqqR6UeBHux64yoZ6c9CI16GCew/LU4xm39ytL8tayXRX6T+BigaRWhNSvgvIaiM2sy2r' +
  'KCXag6SVFy5F0fVDRKWdom5Ik7JvAijGzRQT7xHNZxX9E3HKr1+bF/Eu/lIpS+GGfk2s2Q/D/lFx1+CznKFGSVzKEzxqcuGGiW0Z' +
  'xk2yo6og9IiKHBGJLj12giPCq+gziyMDKDXWKxrPYg3qkyx7/zUFTd6iWr0fy+EnVWVPtawJXnJ5buCHPNaBpqjRAfkN131Eqo3j' +
  'pmjEmQHKcv3SfKhb41eIGxkZqlr7l7bKrlX96C+G9qhsoOnmMXXjhIiq/oqqXr+u1JJW/Rgbgma8X1KvboY3XIdjIwhVeXDIue33' +
  'w9tTVPcdMAQO5ICkrPvtgQNiTzG8YmjzAVdMds8JrEqK9tLsAMSKhFmL3COKgyKN40S2I+MCRHmRydfgyPJj8UDegSmfylB5QUyJ' +
  '6qE6qX56F4/KaO+Ftt6PfNBdwnGY7kSKo7fgDV/BaYqFnyGy2JQMspA0vjd1xIEpH8tY5Z9dcOqk+vFdLnyvf2wJuyNCI8CNvORn' +
  '6rKqW1yR/+jwNfmQqDqeevwYtCwp9+MwlBPw/rs/mDzdJqzMLyKfzDwj/G3q2TvPqWrdpkjf0sIelk3kDHg53rUOkt3DP5ZUEnQV' +
  'DIga4MK1R1ajNQHVV2GRkXJojaLTDVh0fpZo3kFxOdeqKc+Lk00WOHMzCCZeZOEZYHcoqBBvTsP7GwGRVQXD8eqAmXiQzae69ALP' +
  'jQw/2WWY+zKlr9lv0mStOriE80pqYtdtMPGLiJIUGuCzaoACE/AVuR5AYjsvMOsm+Qrzo9DMYB5GONQDQp3JckqZB526nOrNG51G' +
  'OO1ymrqK6eOPSeIzzapZJFb98SspzXpq9HJNrFpWEHkr4CkLwCqPWde9h0vPoxwBjSnC5Lllau+2JM7xsCKJGUVFrkfzm8I0Pggp' +
  'pqWBJr1g3amF3QCv0JT42z43wMO+5hzAQnQBEhsRWu1J5HOvlX7bwms0iY2sfvKTrrv1R4oGg5zUmZkkYOV4xf/x7Os8pEv7NQvP' +
  't3KP3KWxIgKlkJZXNYdxmZsmKwDrsdrv7FIPdnA/SpTT7j9eejVcCdxdE0dONz6Z5azI/3FW/UiEsmqmiBUJTylEWVaujbNS3YKy' +
  'Yv3MsBoUEjCrZkrzsAwJLyGcFlU6y28aM83RGJwva/WQBcMQmwLQEczSnRgZMqVmyTpcOhTSD+JAdh+6fnuqpEvGjPooo8dQtVmQ' +
  'xkbOyTKlYsDvFX1xXYZPKPoqHlp98qp6qkjffa1qGE5N9aUD1g0wL/v1ytoRK1JntapP6wItuf/h0itQQ/NEjj5NdcKjrkQxBJOI' +
  'qic+DqX07FoHozlQ1BjKHAGFSogrbJgEFAI1JSbDV2H3ofrwV/iqW3KnvrTK2Ko1KkjUi5netntncnLDfFyS9UYioamkVnN5j4NY' +
  'TYgNeUNKbTNJqVlPJj7z4px+cVS/2K9fbJkXr+YE+ZhNSsNqQNeLSEzHdv2lhJkvNQxTlxoUwaIeQ2nV5aiAxIEEV4pW9m5PIea8' +
  'Cuc/xUofl7LQjloaqAs+M3uUMYbqnDpkZ4C/bE9ZlrCxVAeQHDzYjzOlZG2d56B96uurjq+Dg6+GNL5w/FXJl7fejX2a66cRIiLw' +
  'Qck+uNfKP4i92DiPVR/gpK4EmkP47HjhpktyiHIYTA9O8WC6yRCI4ds+zRktI5ukQXp3Hdp1SWac5UJJOrmbDw8cqLA1ZV1+mli1' +
  'fI9VQHtx7QxTOS+exTsVu0C1HJPAjozWi4ibbfkHJvqHZYl1w5dm5RTzvS9KeSik+WThG8LwzIIzC6gyz2khD579sNUMJFXnD8S5' +
  '75rehmlt25hpPt3Vcj67IXDrEKfCzweGOK3HZfHb5s6dUr7iEHFG5vcaIn7ADAyVbsg5uN1tYMspU/bsnbaus/xdnrIBUt62iku7' +
  'cwMwv4MFNA9y5O93fRoWZbthFmQlYZqlomwvi0vtjrgNl7RWjLKNRJvg7E7+3zH9/8wkO2f/X8HJ+sLh0m9N9+6DoVhgMfFaeeh6' +
  '1w05Eh9d9kuIIUJFPSNozzgvEanMoJIDXEqEvzz35pVjIqGK+sbUUlLKP4+JRtUDtX1K0Ny7Izcmgkqyb+wRjSMoRviVHBvpRONM' +
  'gK6inSLWgwaPWlUy0qXvRXrouWF4zgLFoq5z/C4QcmpG6X20Gge77OW5D65kkSPdXf7l9dO8Qdz2L+Df5c/Q5XXyyV2um22+sh4B' +
  'vLxncHbv8eKTyz4OMhNG/aB1Gb6S5K6qncjwx0SH4ry8Svc2jLMM305WMkXQIQ9J/UHVYzZKbpFREgPpN4IaDbgDGkklFmpNGa/k' +
  'O7Q1FcTqxJBet9IKom5SL+NrSqEaMlF7zLp+NRPwgNIhDdEawqs+a3t6iiFS4SDkBRQxpH9wsUlPjOlaUFuEUKmT77r2FXQtHiA5' +
  'hJDbEJQ5Y/L6TLke/Sz0JrVPv6MilEc0IB6yT+MMYaWhgS/hoHguvP1xIBNUJbn+h9dFqumKIo3ONWIGVtzo6BPGNJgcPjfPKec8' +
  '69TnvMN5L7Xlkfy09kGbB35YQcwVnD4GiFNQN0+FNFV9C51NiDRQ60Ggj9aZYVxMGSrChT6DgCsGYfWuwfHZcsvKOjWU1Vv2NtMG' +
  '1bLXTXsnQwwOPBmqHJyqNDENCOtbiwLYElAGXFg90yoslAGrhZwOVpSPl7UuMTSjufNkQMdrZXvXBdYxV8Zqa0r+PXf65yGHrSGB' +
  'XycP7dp2H0oMpCPfh5wcuY6rvUzzVs6fyphWGScj9paR8gznEshlk2dMDQByvckz5m0AchsQVFxul3Wzfca0t9Cqv+K/K9CBS3OV' +
  'pQfNInEauFxvM+BK4275fiq6fSG214E63wXylgQZqfSbpUStBcMqgR58PCu6ciPEodz2SSrltk8Q0/IQ4JUfk2Q0TIwz4CVZEtkj' +
  'Wzq8Ms5QYihKkKqLIVU9QfBGgqARCGG7EEI2CRD1VazUsmqjtxL+k7nEW+a5vbpcbYJ02Cg3kQcKwTlQOuZI2k/2gPk0hXCz6k7/' +
  'BMFXjINvC8E7iuAjTHDIbhXZdoZTXe5SiOFIf82kYDg41jCs4epC7IiGLZnr0LBIqz8Ng+ZCwyj2LRAWlTiZwPBER88EbgOgNoOB' +
  'hjILRZMJMi9lnoV1KmVuV3MqZ4J5iz+5eVxnilS/wafdqTN9MqyR0zCpM9UA1ZmW/V86s1pmjSFS6kwRkwa32WLF6RYP2m+RucoF' +
  'NvtSOyk7nghdZeMqPwvDbSetSzv0YoGXYgmw+5NBu3nSyDQgxLD8EyyZ5V1ATsstK1tWQ1m9ZW/TbWib3rKy9pZ9RWWsRwb2G8VA' +
  'K/GxG8BMiAwtqaXwxjwDdYWZOQkus5ueMvWYmi9yYRLepL9z6G/qguivTX+FdET+aNGsjau0cAB8IL/SVHjAzJ7YTqIoo2YAInPo' +
  'ziFFzjN6scSYefao0XyFNfQ7pijrNtnK5axsv34WFzcIoUMBQm5HL5bWgwILEmQ8D1ZT1/WY/faTJPSz35tX/jq8A40F6KTxCVFm' +
  '7vYYH4tms5ciO6n3k+Tkqe+GtNKYPc3cX80awrjG2M8bjIYrrR1kgGzd34cnQACOTH3eusEeYQcl1D+7731NnvrGKqKqkddffQYQ' +
  '7EwgKhBYzYQaZBGEEZY5om1OK5MJlhMkLvSPIvcrILsqpFx0+mkAvXUQx168sNdi/0fjXynE7sOVo4sWjm2BvcqAa5ANonFSc/r4' +
  'iN7iC2JZoISmkw7+avJRsbu1+0TyrPbmBL8YMgsGC9r9qVq2sFOeyggWtO0wwvvKoqNJHrG1eZvtMIp1tM601zg2nEq1/uHnZsaY' +
  'VNAqis4/4P0E3+guwbfEhwlZ3knYJgs+1YD1wBhsLAT3PMBQ3VC8m/DtU50VOdLcRz5ZwC0T3XVDtMK31GSQbgezXp7J1w5XT7GJ' +
  'KXnWXQIX/9gwIRl2D9hhcuFunIDNT5l2cogOFmB7QOInRAw+GQVL1jHqMY/MYC+X+AuhTEDyZJwlUw/3Y7KE5dfAtiVy8EuOADW3' +
  '85wq0mpur0fhoylPjnFo0faw2Tnzbj1TbtOU9hSslsZ5MGPkk7TjPaintqapDO9VzfQ3TbGI0cbehZBBt8GBDm/7gPjxNslXcDt3' +
  'VBdeTS6M/rNu2eVCJ6igQhd6WwIq/eqeG0YA+K0FEZHqXnKEGMxHCY2W/b8s38U0ofi1XX/9zFdJs00+KaepXTwoBGJHaqWUldU3' +
  'DSJEIj93eWHK15jy8VnKG/dU7aiuynfNLE8bONDp2IFWIgXRFsK/SOMr+lv29gtNtGMKN0/RPiqKmYG7q2ijFe65ou1XtBMLN2XR' +
  '/izaqkXby3EDF+3lwm1dtMOLNnvRjkPcAua7mOAJXhQtvbz5JLHCv9PfvvzzcNZB1U6nk63sWErfuKLU6uUbVuaE2SN0Bewq95BX' +
  'TgbXGDdWuMyxmc6nIyG+NhKl/wucGry8jq5hThlgGaeeJ609Rzcxe266+TXahlKtA5ZUPXf9tge17d7lTEnAAi97gXZ5eWy2jDcU' +
  'vxzCLfwQJELkYNtKH+/dgFgRAQAaCzdd8lq2i9QnJ3C//632m+Hsym+zSGuPcX9+sVmfsv+A8Qfyd0iJYSzSh3/qShRQBOjm/Svp' +
  'Ib30RNepkq4L3NOwrmpYxOHuDOCwtIcD8sElC6Vaf+HDlstQ1Z/+JXeHP+9+uri/wonIup+UmneQNOK23wt/7Huwuqb1s1YcaT+9' +
  'ZN/0//EZu+X0c1DPJd9z6hXWAyuu9l7oPrjpWbcOvkJZSpjMY1Ysf/2lH0JWbQGKDwGXawUBDxSO4N4A48VX1HUlj3BdXoniscqK' +
  'grCCyxhY90cgq0o+a+1DsgO93bP4Rs8LAx2RtbMnX3UpOVffwU43bvtYaDcuWWHVkehnD00IcoZ0EpzQIvpkGZDQYooJghMssFrV' +
  'bf8+vO1zIBncqHdmWl+zTz+/zLqdW0GNEJOKOwQLYViGYwyAYexgxVTjqilnqsmRI2JyLxSstDQb/bfsMPTvunj6b4asakX/98xC' +
  '/1GtTvZq+6OFrr/+b4auzOHYgH2If8IZ7qHc0uzHMrPFIgHXQWTv/vweNbOEYA74o5oDOmF+6CJVkx+mDZhg0acZSAgfB9fxiwSW' +
  'aSndy9GAkr3z3lo8UGntScFkr4b5DjV5J9Q63ovh1C5GNDGEsbCMncUWzLgRWIzKuAO2faiM+CSVSI7TI2lSQKR5U7y/kKNIYOln' +
  'siephJU5SY9YmVF+Cz4EbwGHJHxtanzZ6WVJgbWYlKw5+GthuIKaFsch8hsKhYcfdaWH3mq5HGVFYA/22xwYAwxoNcBQ42eYTwBT' +
  '9aDA2cPCKLKQPEufGGxryW+t+bQe+fGSJtfBQQq3E2cdKW60BiGktgi+Qb0sr4FDH3oDNevdNhCy1gDmFhaOD4FcwI+bCs0rnJeu' +
  'nTG8+uvFRa52K05eXI310mJXe8tFPlfnupF2ppBwNNUwyRC96K7jrlzgRWWkW3KnfxZiZ5NOcPO4ftstsGeD/TDj/L+Zt+V6pXwT' +
  '7W67sxQERlifs7lMjLV7UfX/374S2gG7zFLsP7bjMXtgZVQnNYVZf1GR2UW/c5WZ8xeJW5EsbNuHLZ1q9rk6VwnBScoTrMZxYFwk' +
  'EJjkIU1yJm9GwnHvki/xoFXzwRQOQjVm2ytdx4EWfQhsitFOFU/HfaiwC7UW4+O10mwIXrUu2SbqABOBPLEuKI7hUS27oxFF9poi' +
  'q7cjwzkigVx2mAcHr3Eb5dqOqw60UKu+HoRWJcG7YK2i/sNl3O7G23Wjwj9eUlhVyMt0Cfu6YRHrw1V+5EiqAxX/kSHvZFVe5AAX' +
  'dnumrfEs6lz8U41nRfav0OoXP1kQvgncC+2S2U4RPY4orgXrts2bBUugvD5CA1AVjE+uOXSiL8JOJZOBkb8GTNH1hRBt998z6aad' +
  '0PGxHHnlpdBLEuiNVbAxDgTQVCC/qJ3Fv0BrtqoI6sS4AeDY4IKKYrDHHawrqQp2JGnQ4xG9/RP9NAQh7HVgilcvsbM8WyrqAdkU' +
  'CIu4sBLOkaJEujt2lkSAa8jsHpxiBVycI/UbFNZov05FYjRFMce6kZ6sk6zmtlc6FHmS943q/5h3gqmmlfp/jHWn1PYmon+LozHu' +
  'ZN1q5ih/KX2I3tmc43pzZfWvUPrUcV5GNWu7oU/quCA6YADNOtO6ZrasWp1l6Q397gz3YIZPB1A8gvYjqvRpE/Ou0YTzy3Uu6o0B' +
  '48mR/JMJgyb5g9xP2a0XgRiyhuLRG5UAXtg3lF7RXWmcXlzGddhlDMVbzJYp46g8W5bTTVqo8kkdI8ln69oe0R2QHOM+qTWTgYn0' +
  'sLA3Nusl/id441FAMpsVmYGvi3WXLFq7FyEiwbWa8bwR3m2DCFfYu/0R7dMNFPFFWjGv87SQ03jIK4lO9aETfui0H/IRXex5QUue' +
  '9hkJo2/OLNdD8q0v8dKNHC698tcPXvIfyE17uFRiiB/0F/SD2W7OUnIyZynxeR8LumHOaszrNyYKf91/Mw7ChAmwd3WupAOgLaSp' +
  'y0T6D9l/oJVqTsf2So+Hr0QRoVHzD2cfhV7FksfwHFk5HcK51gnhvKAHz82qMp41MamPy6nUhLErfaqTk6+jgBKGUExPDfwzLIVd' +
  '2hFFfdEBTxa7NN2pkA7Me4uaGbwwBvC4pFh3eRaWwgkVHwSR0NSlqj848LcAJUG+qYaJHe063raK0S8KsvzSnKeWQmTvwLCGEJ04' +
  'OM56lGpaHGY7yCERju9I9JBmYqIBrQpRKT/UwTpymiCrpN4Su4WYSFSH9PCUn0plvFm3GFYzX9bypwsUSZZIWLq4dPVxZJlR0okF' +
  'izdd8mNHxKhleSc+RVursiXcrpf9Hu5HS3a6YaNFcASWdEQPyR7VVd+HM8dElf17dFh1pYvkdPUZ2cMclVpdwxoE1DJ/e+s9GOBI' +
  '4vLE9cCSR9ePjqK3t2J+GH2VLzeTk75w/PSPzMVn3ti17Vsvaf79Pvw+yKM02lb1QvFAFTFv632RPuC6VzyIBOI74sPxV4tjr66d' +
  'DpirxlEdCdMZcC6cFe6B87wgobzxj3DSHKT3zr03/TlTZ9+574O2POr6KreF2vkot3PGN0z/PiHuPH76Z5XXI66H7DfBFvjNrfto' +
  'yesbxTkeRI7gWNir/sU78Ui0ZDtyBHUFO4ga/rQ9p/65ni78q8Nooiu+Kl6Z1CncyKz8fWIPcqdMr8duI3UB6hNcuWe8OMMobhY7' +
  'KcoBc8sUdh43FTqv2FjpPPFiXRcBb3D+mZOn9zv8Mxe6LG/4p7oSdljzT7rS/JNKav6pxCaYjZl/itw2ELXe0/dCsSOGf6qr2lHD' +
  'P9WVN2/4p7qyZNjwT/W+dKfhn+oqemwN808m3BHmfhtivvfm3kDhit1aC9ffCP2eaBERiDk4LNwwI0Rf2o6nV6Z5z8vDxQ6xYVOl' +
  'nSN3Abx4xdPuw39U8vmPd92O+vsqVC3QkcBB2u0Gon41be3E7R3ojYIgyPir7iVX/cKAovi/abkaW+7C9lwN83+GQqN8mmQB2suc' +
  'CzH83V2fGYNw16dWd0XeRCpkVuX7yMXCQ7tlreNhsZlmT2DxQCcaY/+/uCy03gXxzA7M6oedopAlX956K7qQZV9QMrddggc/bf+m' +
  'arBrfkvMLFlLu5542MYIf7STKo9CmVr2N+L5LqqlVp7VfJQldVadycroLI/J8uos4clwlhpfnAURxTnLsyxZK5aW5dzGdZAe5oML' +
  'PqDLPTiRxYjDu7OnLpAbeR4HHnfr3yOnq17c75bKOdbiLhtMh77JrfFePAMZluqpdpxvMkoaleYfZBZNkRp6QD3+Rmh9r9+rw+Iy' +
  'msVOiEYKAVNqZa1j4qRanmOWbGPTf2zEorMhNFAt2+mWLmwedyoMi8srfKH9OE3oKJJ7DiVQAkmQdZjouomDgsThlp9NvHirSvNB' +
  'uGXlwmW3kh1ltyJasw63QGOL8xbcggPsayCaDowb12BIVI1qK3e6Tbjfi3Qz/fUI6y0336pXE97TIb4FJBtr5Vtw9gOa31BGotO/' +
  '+VacPomeaqBPck+tPaJdhf5yHzy93+mv53bFjjr9pbhHm+kvPPpD9xcYlcKmv4y5wEenh/SY/lLv5hM3sL/0BfZXkrsf+6uRj9tc' +
  'Y0wGhX3ur6pvuzDyBvcXyf66v1yKD5v+wqWA6S93pt3pL1wNmP6Cs1JMf8EtPb58n9+ebTfjC9YNm+NrMSlQnP3/zMSnrhhv8wD/' +
  'b6D50sqSm+FOioxjZcnprIat0tow3sy6cgjJaHWBm8yjrgf7MLQgBXa8PHdedxm/47GZMSrjwLx27s3zZsqTldWjym9MF4nOTfwt' +
  'NBls+MdS/IJkm290E38LS7ef2pumb7Mlx65zT1ya/dUm/haWcj11U3NDm/g7r4bmae2O2KC9XURi/zXaF1R4eCTH9l/DTsE10vgJ' +
  'S+36XVPUeXXjeqddbCim3Yh76sYZ4e3sg+EF/CHKYfGUc/CHQgTsPsUgKdbc+OvU8+es+JvS6Kq088rmtAmwir2dUWwOCwMcJM+Y' +
  'cvHhsvNKavPCueWRbWW3FFacWwpRzi2I2pnkU9wxUKrPnOQOCDRPQaxP8xQFJta3UuXWAJR59FMY6tk8hW70+hYGYfVxJD/a2kfN' +
  '6K5smXCtn48W6DVj3XiCe/QiIyG1/Hh36ScLQMYe3VT3oF6Z7Hlx9qIb8/wuj94e0XSC5cvDLZv4cQaTzWhp+h3Zjay3QzuPbuLH' +
  '4eHoLDgLsNHxk4E12RWjuGJrmY6HcEWcp7VzjBVevnFRge0LwOSR/sKYqBkRqdaKa5+S2GSX81OB/XsxCaTX0z8PCyPI4jkb4BC8' +
  '/T55QujA0HGYPAispjD+2FHZswZMjBgwOk4bJEAQnnDASVNA5ZaVnaWG3NlZ3mbaYFqGElt4+lcsX9r34U1vs9QqdYDc6tGrjj8z' +
  '5xOb50fNm+LO9FpdZsOOzx9hYfP8qAUnb8HYTGNGFnYPhDbxuzTGFOeopegTpzR6PxR7ujfxuxT67xfeuHTUaHZ4u52offGWwfZN' +
  '/C5B8smQ1oDMDm7it7JtuWgL8rc6Shk6EcUH0laANxJC/Mm0GUUdfqNqTI2njdLFUZyC7OVoqMvzy8r7oB62s5fVX/7e8vZQOz/S' +
  'WvkYvZ4p49SXXO8ALSG93DdqqAgpDGmrwaFvPIgV6bC6kNT0HX29kenbPdgCR9wBJV83ounbyrYTfY/gXiWmbzDGI31PoCMr0ncx' +
  '/qKhb3AcZvoe12PMyhn6Dowb+k50GPquWjZs7XFizex51wFfnGelt3ke2YI0dMI1qBUJcyrpNvG5YI2ecL1zOxOo9c5cSr1NfJ5f' +
  'Axgd0QYTNpGVZ27ic3EpoO0oqU6ez+cIcbZ5ftj5lrnza3zPPRp5tzkaObHCRyOvaHI9zKED4GSHE0gIx7beVsSVa4u6YDWUC4Jk' +
  '+fNKPIZNlApomII5RwEUrl0B6S4GUv0MRIqtBFTZkxTxXFwDy2H0O4tPMQA6JD/tkQg7EXX9ef83McaBPx9ULXsXgz4/XHp1haIP' +
  'xbWw4jNKJxM8Qh9VJFyn52rNBjivx2Wz2B/QLCnBrhNufdB0/QmxYfET0B8TYzxZx68jF9OaUXYyjXSJZOuGpR/NlwdaartJX34i' +
  'gvNN4rM5midS4to/i42On8gox586F5gnrTf83FVkjQx7FYnAye2nSdfTreiEctynp5cxT21k+lnRdPPh0vMhz1ODrxrcnsywWIEI' +
  'lvIH1u0lEzRzAlQTGiEY3QtjiyO+ITtyViNd2/YJ8/oqqneW0pTdBy6OvZrtQpRqTQjYG5nn5ROh7fd2UsvyoYQOSnaLfaoNYse8' +
  '/aO1Hdpw5c93C/CMr12zePdHkt2yFuaUNWsygfAdB/cm47yl5QuKFjcrKtbreWVlKXZCC2I8G5goaQlGi7sQ2rD4sTgmsqgpsVEo' +
  '8izT1OFwEucF76gI9m9c+plhyjkXmA+76wk/GHczARMHLmFhj5h1vHzkrPj5VhastiH0PSj2m9RSNDgtZPtKtwcUAJ6S4i7Hrx0S' +
  'ifZIT3O3SLStIn5AeOiIjDWPu+WXAZhxs5LOI4Pjvj5O+oOTD5CfTJP8oBXJuYS6OuGa2hulFWFIO0m7DpYo2isEfgWBySOPha6C' +
  'e6i/A+cfHF9AuvOc3xSfdn4TbDMI4vFPPaAqfHnr3TjD3wNiGqmCBl9deQnokV+JSRLbix/DCaxmaA/Z8f1H3Ic75pAO1vv5X/Xj' +
  'xkBhwgNrm4TX6IDTc60DN8L5X2k2IlYZn3XNJDOMFu+c8R/WP348eg1bb/OSKPkPRFPuvJKAcK7tF03dG5d+eHwd7/Diwicgx69A' +
  'caTxJyna1BNp9w2ENzp+ggXaBzULMN/0vHn+4MXzt/Hzw7OP/MXHvrvQd63F9E9EKq/umGLiGTyqyamV6LMegn5FR4WVTRN9+keZ' +
  'PlPtRJ++CZKvziS6RPMY+PNMEX0G5Yvl9KkqrB9k+kx/9mAJ6fPvVuAjd04aM402MUT1Wtfxo07OEZlrQ5wXl2R5ylPSM6WW7dKM' +
  'lrmM7RsBP25tYwiWGE/xfyFxyjUgMogx/5Bo6N249MNKt6KgEFvnAvNMquseP0avn+qZvnppYsP6HEFeNsD5b4s88bc8a6OdV2zJ' +
  'zmY+TslFnts6Y660eX7gohmYpNimYKiTPWIzLW3KGPOlQbK52kwbJsHIio3ShpX5rzbTeTVblRXbfYkTitRwoA8efFYDXxYs6p9K' +
  'YGhn9E+um11lMJJ9zVClojMLh9hPiFgP4hQPXUudqcZzvovk9Z09wlGW1sF80+fDMFMlkUTnpB4UA5uHBbghVk9R4M102Du64fnI' +
  'bXyIR5T36Qf53EZLh65q1AGtsryx1CPZscWTfWNNfKL74CC6uYmPsEO6mmOe2PqpAq4CFIvxAq/BmGPVwnH88ZroXVkTaMsJwGV8' +
  'A0xWgoM3IAZ584BjkzXVe80bTSOcdgmPburFpv8HZEEMUQ=='
