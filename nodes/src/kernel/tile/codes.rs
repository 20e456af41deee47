//! How the 32 codes of each of 16 outputs lie in a tile: in how many bits.

use super::{super::simd::Simd, TILE};

/// Four inputs of every output: a group.
pub(super) const GROUP: usize = 4 * TILE;

/// Codes of 16 outputs by 32 inputs.
pub(super) trait Codes: 'static {
    /// Bytes that they take.
    const BYTES: usize;
    /// The largest.
    const LARGEST: i32;

    /// Puts the codes of one output; the memory was zero before.
    fn put(block: &mut [u8], lane: usize, codes: &[u8; 32]);

    /// One code.
    fn get(block: &[u8], lane: usize, input: usize) -> u8;

    /// The groups `g` and `g + 4`, for `g` below 4, of the outputs from `lane` on, as bytes.
    ///
    /// # Safety
    /// There are [`Codes::BYTES`] bytes, and `lane + LANES` is at most 16.
    unsafe fn groups<S: Simd>(s: S, block: *const u8, g: usize, lane: usize) -> (S::I, S::I);
}

/// Where the byte of an output and of input `i` is, with one byte a code.
fn place(lane: usize, i: usize) -> usize {
    i / 4 * GROUP + lane * 4 + i % 4
}

/// A byte each.
pub(super) struct Full;

impl Codes for Full {
    const BYTES: usize = 8 * GROUP;
    const LARGEST: i32 = 255;

    fn put(block: &mut [u8], lane: usize, codes: &[u8; 32]) {
        for (group, four) in codes.as_chunks::<4>().0.iter().enumerate() {
            block[group * GROUP + lane * 4..][..4].copy_from_slice(four);
        }
    }

    fn get(block: &[u8], lane: usize, input: usize) -> u8 {
        block[place(lane, input)]
    }

    #[inline(always)]
    unsafe fn groups<S: Simd>(s: S, block: *const u8, g: usize, lane: usize) -> (S::I, S::I) {
        // SAFETY: as the caller says.
        unsafe {
            let low = block.add(g * GROUP + lane * 4);
            (s.load_i(low), s.load_i(low.add(4 * GROUP)))
        }
    }
}

/// Brings the codes of so many blocks into bytes.
///
/// # Safety
/// The blocks are there, and room for so many times [`Full::BYTES`].
#[inline(always)]
pub(super) unsafe fn unpack<S: Simd, C: Codes>(s: S, blocks: usize, from: *const u8, to: *mut u8) {
    for b in 0..blocks {
        // SAFETY: as the caller says.
        unsafe {
            let (from, to) = (from.add(b * C::BYTES), to.add(b * Full::BYTES));
            for g in 0..4 {
                for lane in (0..TILE).step_by(S::LANES) {
                    let (low, high) = C::groups(s, from, g, lane);
                    let to = to.add(g * GROUP + lane * 4);
                    s.store_i(to, low);
                    s.store_i(to.add(4 * GROUP), high);
                }
            }
        }
    }
}

/// Four bits each, two codes a byte: group `g` below, group `g + 4` above.
pub(super) struct Four;

impl Codes for Four {
    const BYTES: usize = 4 * GROUP;
    const LARGEST: i32 = 15;

    #[inline(always)]
    fn put(block: &mut [u8], lane: usize, codes: &[u8; 32]) {
        let mut both = [0; 16];
        for i in 0..16 {
            both[i] = codes[i] & 15 | codes[i + 16] << 4;
        }
        for (group, four) in both.as_chunks::<4>().0.iter().enumerate() {
            block[group * GROUP + lane * 4..][..4].copy_from_slice(four);
        }
    }

    fn get(block: &[u8], lane: usize, input: usize) -> u8 {
        block[place(lane, input % 16)] >> (input / 16 * 4) & 15
    }

    #[inline(always)]
    unsafe fn groups<S: Simd>(s: S, block: *const u8, g: usize, lane: usize) -> (S::I, S::I) {
        // SAFETY: as the caller says.
        let both = unsafe { s.load_i(block.add(g * GROUP + lane * 4)) };
        (s.low_nibbles(both), s.high_nibbles(both))
    }
}

/// [`Four`], then 64 bytes with the fifth bits: byte `j` has that of byte `j` of group `g` as bit `g`.
pub(super) struct Five;

impl Codes for Five {
    const BYTES: usize = Four::BYTES + GROUP;
    const LARGEST: i32 = 31;

    fn put(block: &mut [u8], lane: usize, codes: &[u8; 32]) {
        let (four, bits) = block.split_at_mut(Four::BYTES);
        Four::put(four, lane, codes);
        for (i, code) in codes.iter().enumerate() {
            bits[lane * 4 + i % 4] |= (code >> 4 & 1) << (i / 4);
        }
    }

    fn get(block: &[u8], lane: usize, input: usize) -> u8 {
        let (four, bits) = block.split_at(Four::BYTES);
        let bit = bits[lane * 4 + input % 4] >> (input / 4) & 1;
        Four::get(four, lane, input) | bit << 4
    }

    #[inline(always)]
    unsafe fn groups<S: Simd>(s: S, block: *const u8, g: usize, lane: usize) -> (S::I, S::I) {
        // SAFETY: as the caller says.
        unsafe {
            let (low, high) = Four::groups(s, block, g, lane);
            let bits = s.load_i(block.add(Four::BYTES + lane * 4));
            let low = s.put_upper(low, bits, g, 0x10);
            (low, s.put_upper(high, bits, g + 4, 0x10))
        }
    }
}

/// [`Four`], then two times 64 bytes with the upper two bits: byte `j` of the first has those of byte
/// `j` of groups 0 to 3, one above the other, the second those of groups 4 to 7.
pub(super) struct Six;

impl Codes for Six {
    const BYTES: usize = Four::BYTES + 2 * GROUP;
    const LARGEST: i32 = 63;

    fn put(block: &mut [u8], lane: usize, codes: &[u8; 32]) {
        let (four, bits) = block.split_at_mut(Four::BYTES);
        Four::put(four, lane, codes);
        for (i, code) in codes.iter().enumerate() {
            let (byte, shift) = Self::upper(lane, i);
            bits[byte] |= (code >> 4 & 3) << shift;
        }
    }

    fn get(block: &[u8], lane: usize, input: usize) -> u8 {
        let (four, bits) = block.split_at(Four::BYTES);
        let (byte, shift) = Self::upper(lane, input);
        Four::get(four, lane, input) | (bits[byte] >> shift & 3) << 4
    }

    #[inline(always)]
    unsafe fn groups<S: Simd>(s: S, block: *const u8, g: usize, lane: usize) -> (S::I, S::I) {
        // SAFETY: as the caller says.
        unsafe {
            let (low, high) = Four::groups(s, block, g, lane);
            let bits = block.add(Four::BYTES + lane * 4);
            let low = s.put_upper(low, s.load_i(bits), 2 * g, 0x30);
            (
                low,
                s.put_upper(high, s.load_i(bits.add(GROUP)), 2 * g, 0x30),
            )
        }
    }
}

impl Six {
    /// The byte with the upper bits of a code, and where in it they are.
    fn upper(lane: usize, input: usize) -> (usize, usize) {
        let group = input / 4;
        (group / 4 * GROUP + lane * 4 + input % 4, group % 4 * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::{
            isa::{Isa, Kernel},
            testing::Random,
        },
        *,
    };

    /// Reads every group of a block through the vector unit.
    struct Groups<'a> {
        block: &'a [u8],
        out: &'a mut [u8; 512],
        read: Reader,
    }

    #[derive(Clone, Copy)]
    enum Reader {
        Full,
        Four,
        Five,
        Six,
    }

    impl Kernel for Groups<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for g in 0..4 {
                for lane in (0..TILE).step_by(S::LANES) {
                    let block = self.block.as_ptr();
                    // SAFETY: the block is whole; `Shown` has the bytes of a vector.
                    let (low, high) = unsafe {
                        match self.read {
                            Reader::Full => Full::groups(s, block, g, lane),
                            Reader::Four => Four::groups(s, block, g, lane),
                            Reader::Five => Five::groups(s, block, g, lane),
                            Reader::Six => Six::groups(s, block, g, lane),
                        }
                    };
                    for (g, group) in [(g, low), (g + 4, high)] {
                        // SAFETY: a vector is 4 * LANES bytes of plain numbers.
                        let bytes = unsafe {
                            std::slice::from_raw_parts(
                                (&raw const group).cast::<u8>(),
                                4 * S::LANES,
                            )
                        };
                        self.out[g * GROUP + lane * 4..][..bytes.len()].copy_from_slice(bytes);
                    }
                }
            }
        }
    }

    fn check<C: Codes>(bits: u32, read: Reader) {
        let mut random = Random(u64::from(bits));
        let codes: Vec<[u8; 32]> = (0..TILE)
            .map(|_| std::array::from_fn(|_| random.below(1 << bits) as u8))
            .collect();
        let mut block = vec![0; C::BYTES];
        for (lane, codes) in codes.iter().enumerate() {
            C::put(&mut block, lane, codes);
        }
        let mut want = [0; 512];
        for (lane, codes) in codes.iter().enumerate() {
            for (i, code) in codes.iter().enumerate() {
                assert_eq!(C::get(&block, lane, i), *code);
                want[place(lane, i)] = *code;
            }
        }
        for isa in Isa::available() {
            let (mut out, block) = ([0; 512], &block);
            let out_ref = &mut out;
            isa.run(Groups {
                block,
                out: out_ref,
                read,
            });
            assert_eq!(out, want, "{isa:?}");
        }
    }

    #[test]
    fn codes_come_out_as_they_went_in() {
        check::<Full>(8, Reader::Full);
        check::<Four>(4, Reader::Four);
        check::<Five>(5, Reader::Five);
        check::<Six>(6, Reader::Six);
    }
}
