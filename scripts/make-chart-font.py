"""Makes the letters of the PNG charts: prints `ts/report/chart/font_data.ts`.

usage: make-chart-font.py DejaVuSans.ttf > ts/report/chart/font_data.ts

Needs Pillow. Each glyph is drawn once at SIZE pixels into a cell of its advance and a pixel on either side, in 16
levels, two pixels a byte, row by row; all cells have the same height. The cells are deflated together. Run it again
only for other letters or another size.
"""

import base64
import sys
import zlib

from PIL import Image, ImageDraw, ImageFont

SIZE = 26
CHARACTERS = "".join(map(chr, [*range(0x20, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)])) + "–—…−‘’“”•€"


def main():
    font = ImageFont.truetype(sys.argv[1], SIZE, layout_engine=ImageFont.Layout.BASIC)
    ascent, descent = font.getmetrics()
    height = ascent + descent
    advances, nibbles = [], []
    for character in CHARACTERS:
        advance = round(font.getlength(character))
        cell = Image.new("L", (advance + 2, height))
        ImageDraw.Draw(cell).text((1, 0), character, fill=255, font=font)
        advances.append(advance)
        nibbles.extend(round(alpha / 17) for alpha in cell.tobytes())
    if len(nibbles) % 2:
        nibbles.append(0)
    packed = bytes(a << 4 | b for a, b in zip(nibbles[::2], nibbles[1::2]))
    data = base64.b64encode(zlib.compress(packed, 9)).decode()
    lines = [data[i : i + 100] for i in range(0, len(data), 100)]
    body = " +\n".join(f"  '{line}'" for line in lines)
    quoted = CHARACTERS.replace("\\", "\\\\").replace("'", "\\'")
    print("// The letters of the PNG charts, drawn from DejaVu Sans, whose licence lets anyone use and embed it.")
    print("// Made by scripts/make-chart-font.py, which says what the bytes mean; nobody writes here by hand.\n")
    print("/** Height of a line, and of the part above the baseline, in pixels. */")
    print(f"export const lineHeight = {height}\nexport const ascent = {ascent}\n")
    print("/** The letters that there are, in the order of their cells. */")
    print(f"export const characters =\n  '{quoted}'\n")
    print("/** How far each moves the pen. Its cell is two pixels wider. */")
    print(f"export const advances = [{', '.join(map(str, advances))}]\n")
    print("/** The cells, deflated, in base64. */")
    print(f"export const cells =\n{body}")


main()
