// CRC-32C bit by bit, as RFC 3720 defines it: slow, and another way than the one that is tested.

export const crc32c = (bytes: Uint8Array): number => {
  // The polynomial 1EDC6F41 over bits that come lowest first, in a register that shifts to the left.
  let register = 0xffffffff
  for (const byte of bytes) {
    for (let bit = 0; bit < 8; bit++) {
      const carry = (register >>> 31) ^ ((byte >> bit) & 1)
      register = (register << 1) ^ (carry ? 0x1edc6f41 : 0)
    }
  }
  let reversed = 0
  for (let bit = 0; bit < 32; bit++) reversed |= ((register >>> bit) & 1) << (31 - bit)
  return ~reversed >>> 0
}
