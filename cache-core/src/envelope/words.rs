//! A checksum of words that are in registers.
//!
//! The same CRC as `crc32fast` has, by tables, eight bytes a step. Help of the hardware reads memory sixteen bytes at a
//! time, and what was just written there piece by piece is slow to read in one piece: for a few words that costs more than
//! their checksum.

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// `TABLES[n][b]` is what the byte `b` leaves when `n` more bytes have followed it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = (rest >> 1) ^ if rest & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = rest;
        byte += 1;
    }
    let mut at = 256;
    while at < 8 * 256 {
        let before = tables[at / 256 - 1][at % 256];
        tables[at / 256][at % 256] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
        at += 1;
    }
    tables
}

/// The checksum of what was added so far.
#[derive(Clone, Copy)]
pub(super) struct Words(u32);

impl Words {
    /// Of nothing.
    pub(super) const fn new() -> Self {
        Self(!0)
    }

    /// As `crc32fast` counts it.
    pub(super) const fn sum(self) -> u32 {
        !self.0
    }

    #[inline]
    pub(super) fn byte(self, byte: u8) -> Self {
        Self(TABLES[0][usize::from(self.0 as u8 ^ byte)] ^ (self.0 >> 8))
    }

    #[inline]
    pub(super) fn u32(self, word: u32) -> Self {
        let [a, b, c, d] = (self.0 ^ word).to_le_bytes().map(usize::from);
        Self(TABLES[3][a] ^ TABLES[2][b] ^ TABLES[1][c] ^ TABLES[0][d])
    }

    #[inline]
    pub(super) fn u64(self, word: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = (u64::from(self.0) ^ word).to_le_bytes().map(usize::from);
        let first = TABLES[7][a] ^ TABLES[6][b] ^ TABLES[5][c] ^ TABLES[4][d];
        Self(first ^ TABLES[3][e] ^ TABLES[2][f] ^ TABLES[1][g] ^ TABLES[0][h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_the_checksum_of_their_bytes() {
        let mixed = Words::new().byte(7).u32(0x0102_0304).u64(0x8899_aabb_ccdd_eeff).sum();
        let bytes = [&[7][..], &0x0102_0304_u32.to_le_bytes(), &0x8899_aabb_ccdd_eeff_u64.to_le_bytes()].concat();
        assert_eq!(mixed, crc32fast::hash(&bytes));
        assert_eq!(Words::new().sum(), crc32fast::hash(&[]));
        for byte in 0..=255 {
            assert_eq!(Words::new().byte(byte).sum(), crc32fast::hash(&[byte]));
            let word = u64::from_le_bytes([byte; 8]);
            assert_eq!(Words::new().u64(word).sum(), crc32fast::hash(&word.to_le_bytes()), "{byte} eight times");
        }
    }
}
