//! The blocks of GGUF's quantised formats, as llama.cpp's `ggml-quants` defines them.
//!
//! All of them mean `value = d * scale * (code - offset) - m * minimum`, with codes of 2 to 8 bits;
//! they differ in how many values share which of these, and in how the bits are laid out.

use super::Format;
use half::f16;

/// 32 values of a row.
pub(super) struct Read {
    pub(super) codes: [u8; 32],
    pub(super) scales: ScalesRead,
}

/// The scales of 32 values; two of each where 16 values share them, otherwise both are the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScalesRead {
    /// As the file has it.
    pub(super) d: f16,
    pub(super) m: f16,
    /// Integral: 1 where a format has none.
    pub(super) scale: [i8; 2],
    pub(super) minimum: [u8; 2],
}

impl ScalesRead {
    fn plain(d: f16, m: f16) -> Self {
        Self {
            d,
            m,
            scale: [1; 2],
            minimum: [1; 2],
        }
    }

    /// What a half's codes are multiplied by.
    pub(super) fn factor(&self, half: usize) -> f32 {
        self.d.to_f32() * f32::from(self.scale[half])
    }

    /// What is taken away afterwards.
    pub(super) fn minimum(&self, half: usize) -> f32 {
        self.m.to_f32() * f32::from(self.minimum[half])
    }
}

impl Format {
    /// Values in a block of the file.
    pub(super) fn values(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block of the file.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `k` values. None if `k` is not a multiple of the block, or `bytes` are not `n` rows.
    pub(super) fn row(self, n: usize, k: usize, bytes: &[u8]) -> Option<usize> {
        let row = (k / self.values()).checked_mul(self.bytes())?;
        let fits = k.is_multiple_of(self.values()) && n.checked_mul(row)? == bytes.len();
        fits.then_some(row)
    }

    /// The 32 values from `32 * b` on of a row.
    pub(super) fn read(self, row: &[u8], b: usize) -> Read {
        let part = b * 32 / self.values(); // which block of the file
        let sub = b % (self.values() / 32); // which 32 values of it
        let block = &row[part * self.bytes()..][..self.bytes()];
        let float = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]);
        match self {
            Self::Q4_0 => Read {
                codes: nibbles(&block[2..]),
                scales: ScalesRead::plain(float(0), f16::ZERO),
            },
            Self::Q4_1 => Read {
                codes: nibbles(&block[4..]),
                scales: ScalesRead::plain(float(0), -float(2)),
            },
            Self::Q5_0 => Read {
                codes: with_fifth(nibbles(&block[6..]), &block[2..]),
                scales: ScalesRead::plain(float(0), f16::ZERO),
            },
            Self::Q5_1 => Read {
                codes: with_fifth(nibbles(&block[8..]), &block[4..]),
                scales: ScalesRead::plain(float(0), -float(2)),
            },
            Self::Q8_0 => read_q8_0(block),
            Self::Q2K => {
                let scale = [block[2 * sub], block[2 * sub + 1]];
                Read {
                    codes: pairs(&block[16..80], sub),
                    scales: ScalesRead {
                        d: float(80),
                        m: float(82),
                        scale: scale.map(|s| (s & 15).cast_signed()),
                        minimum: scale.map(|s| s >> 4),
                    },
                }
            }
            Self::Q3K => {
                let high = &block[..32];
                let mut codes = pairs(&block[32..96], sub);
                for (code, high) in codes.iter_mut().zip(high) {
                    *code |= (high >> sub & 1) << 2;
                }
                let scale = |i: usize| {
                    let s = &block[96..108];
                    let low = if i < 8 { s[i] & 15 } else { s[i - 8] >> 4 };
                    let high = s[8 + i % 4] >> (2 * (i / 4)) & 3;
                    (low | high << 4).cast_signed() - 32
                };
                Read {
                    codes,
                    scales: ScalesRead {
                        d: float(108),
                        m: f16::ZERO,
                        scale: [scale(2 * sub), scale(2 * sub + 1)],
                        minimum: [0; 2],
                    },
                }
            }
            Self::Q4K => Read {
                codes: half_bytes(&block[16..], sub),
                scales: six_bits(float(0), float(2), &block[4..16], sub),
            },
            Self::Q5K => {
                let mut codes = half_bytes(&block[48..], sub);
                for (code, high) in codes.iter_mut().zip(&block[16..48]) {
                    *code |= (high >> sub & 1) << 4;
                }
                Read {
                    codes,
                    scales: six_bits(float(0), float(2), &block[4..16], sub),
                }
            }
            Self::Q6K => {
                let (half, quarter) = (sub / 4, sub % 4);
                let low = &block[half * 64 + quarter % 2 * 32..];
                let high = &block[128 + half * 32..];
                let code = |i: usize| {
                    let low = if quarter < 2 {
                        low[i] & 15
                    } else {
                        low[i] >> 4
                    };
                    low | (high[i] >> (2 * quarter) & 3) << 4
                };
                Read {
                    codes: std::array::from_fn(code),
                    scales: ScalesRead {
                        d: float(208),
                        m: f16::ZERO,
                        scale: [2 * sub, 2 * sub + 1].map(|i| block[192 + i].cast_signed()),
                        minimum: [0; 2],
                    },
                }
            }
        }
    }
}

/// A block of Q8_0.
#[inline(always)]
pub(super) fn read_q8_0(block: &[u8]) -> Read {
    let mut codes = [0; 32];
    for (code, byte) in codes.iter_mut().zip(&block[2..34]) {
        *code = byte ^ 0x80;
    }
    Read {
        codes,
        scales: ScalesRead::plain(f16::from_le_bytes([block[0], block[1]]), f16::ZERO),
    }
}

/// 16 bytes: the first 16 codes are their lower halves, the others the upper ones.
fn nibbles(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| {
        if i < 16 {
            bytes[i] & 15
        } else {
            bytes[i - 16] >> 4
        }
    })
}

/// Adds the fifth bits, of which there are 32 in order.
fn with_fifth(codes: [u8; 32], bits: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| codes[i] | (bits[i / 8] >> (i % 8) & 1) << 4)
}

/// Codes of two bits: 32 bytes have four times 32 of them, one above the other.
fn pairs(bytes: &[u8], sub: usize) -> [u8; 32] {
    std::array::from_fn(|i| bytes[sub / 4 * 32 + i] >> (2 * (sub % 4)) & 3)
}

/// Codes of four bits: 32 bytes have two times 32 of them, one above the other.
fn half_bytes(bytes: &[u8], sub: usize) -> [u8; 32] {
    std::array::from_fn(|i| bytes[sub / 2 * 32 + i] >> (4 * (sub % 2)) & 15)
}

/// Scales and minimums of six bits, eight of each in 12 bytes.
fn six_bits(d: f16, m: f16, s: &[u8], sub: usize) -> ScalesRead {
    let (scale, minimum) = if sub < 4 {
        (s[sub] & 63, s[sub + 4] & 63)
    } else {
        (
            s[sub + 4] & 15 | s[sub - 4] >> 6 << 4,
            s[sub + 4] >> 4 | s[sub] >> 6 << 4,
        )
    };
    ScalesRead {
        d,
        m,
        scale: [scale.cast_signed(); 2],
        minimum: [minimum; 2],
    }
}
