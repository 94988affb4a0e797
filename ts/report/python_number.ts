// Numbers as Python prints and rounds them, for log lines that people's scripts already read.

/**
 * `repr(x)` of a Python float: the shortest digits that give the same double, an exponent of two digits or more
 * below 1e-4 and from 1e16 on, and a point otherwise.
 *
 * @example
 * pythonFloat(0.00001) // '1e-05'
 */
export const pythonFloat = (x: number): string => {
  if (Number.isNaN(x)) return 'nan'
  if (!Number.isFinite(x)) return x > 0 ? 'inf' : '-inf'
  if (x === 0) return Object.is(x, -0) ? '-0.0' : '0.0'
  // JavaScript's digits are the same shortest ones; only where the point stands differs.
  const [mantissa = '', power = '0'] = x.toExponential().split('e')
  const exponent = Number(power)
  if (exponent < -4 || exponent >= 16) {
    const sign = exponent < 0 ? '-' : '+'
    return `${mantissa}e${sign}${String(Math.abs(exponent)).padStart(2, '0')}`
  }
  const sign = x < 0 ? '-' : ''
  const digits = mantissa.replace(/[-.]/g, '')
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0')
  return `${sign}${whole}.${digits.slice(exponent + 1) || '0'}`
}

/** `toFixed` gives up to 100 digits, all of them exact. */
const exactDigits = 60

/** `round(x, digits)` of Python: to the nearest of the double's exact value, a tie to the even digit. */
export const pythonRound = (x: number, digits: number): number => {
  if (!Number.isFinite(x) || Math.abs(x) >= 2 ** 52) return x
  const rounded = x.toFixed(digits)
  const exact = x.toFixed(exactDigits)
  const end = exact.length - exactDigits + digits
  // toFixed takes a tie away from zero. Where that gave an odd last digit, the even one stands in the exact digits.
  const isTie = /^50*$/.test(exact.slice(end))
  const lastIsOdd = Number(rounded.at(-1)) % 2 === 1
  return Number(isTie && lastIsOdd ? exact.slice(0, end) : rounded)
}
