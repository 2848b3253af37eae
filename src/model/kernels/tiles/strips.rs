//! What tiles are multiplied from: rows or columns side by side, so that a tile reads its sides from end to end.

use super::{super::matmul::Mat, Room};
use std::ops::Range;
use std::thread::LocalKey;

/// What strips are made of.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Numbers along the depth that one holds.
    const NUMBERS: usize;

    /// This thread's room for strips.
    fn room() -> &'static LocalKey<Room<Self>>;

    /// Packs one strip: `rows` rows of a matrix from `first` on, with what lies past them unsaid; no tile keeps it.
    fn strip<const WIDTH: usize>(from: Mat<'_>, first: usize, rows: usize, slice: &Range<usize>, to: &mut [Self]);
}

/// Two neighbours along the depth, rounded to bfloat16: the first in the low half.
#[derive(Debug, Clone, Copy, Default)]
#[repr(transparent)]
pub struct Pair(pub u32);

/// The upper half of a number, rounded to the nearest, ties to even. A number that is none stays none.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let near = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if x.is_nan() { (bits >> 16) | 0x40 } else { near }
}

impl Pair {
    #[inline(always)]
    pub fn new(low: f32, high: f32) -> Self {
        Self(rounded(low) | rounded(high) << 16)
    }

    /// The two as numbers.
    #[inline(always)]
    pub fn split(self) -> [f32; 2] {
        [self.0 << 16, self.0 & 0xffff_0000].map(f32::from_bits)
    }
}

/// The rows of a strip that lies in a matrix row by row. Past the last row the last is read again: whole strips are copied
/// without a test in the loop.
#[inline(always)]
fn lines<'a, const WIDTH: usize>(from: Mat<'a>, first: usize, rows: usize, slice: &Range<usize>) -> [&'a [f32]; WIDTH] {
    assert_eq!(from.col_stride, 1, "a matrix is contiguous one way");
    std::array::from_fn(|i| {
        let at = (first + i.min(rows - 1)) * from.row_stride + slice.start;
        &from.data[at..at + slice.len()]
    })
}

impl Element for f32 {
    const NUMBERS: usize = 1;

    fn room() -> &'static LocalKey<Room<Self>> {
        thread_local!(static ROOM: Room<f32> = const { Room::new() });
        &ROOM
    }

    #[inline(always)]
    fn strip<const WIDTH: usize>(from: Mat<'_>, first: usize, rows: usize, slice: &Range<usize>, to: &mut [f32]) {
        if from.row_stride == 1 {
            for (to, column) in to.chunks_exact_mut(WIDTH).zip(slice.clone()) {
                let line = &from.data[first + column * from.col_stride..][..rows];
                // Of a size that the compiler knows: no call.
                match <&[f32; WIDTH]>::try_from(line) {
                    Ok(line) => to.copy_from_slice(line),
                    Err(_) => to[..rows].copy_from_slice(line),
                }
            }
        } else {
            let lines: [&[f32]; WIDTH] = lines(from, first, rows, slice);
            for (k, to) in to.chunks_exact_mut(WIDTH).enumerate() {
                for (to, line) in to.iter_mut().zip(&lines) {
                    *to = line[k];
                }
            }
        }
    }
}

impl Element for Pair {
    const NUMBERS: usize = 2;

    fn room() -> &'static LocalKey<Room<Self>> {
        thread_local!(static ROOM: Room<Pair> = const { Room::new() });
        &ROOM
    }

    #[inline(always)]
    fn strip<const WIDTH: usize>(from: Mat<'_>, first: usize, rows: usize, slice: &Range<usize>, to: &mut [Pair]) {
        if from.row_stride == 1 {
            let none = [0.0; WIDTH];
            for (to, column) in to.as_chunks_mut::<WIDTH>().0.iter_mut().zip(slice.clone().step_by(2)) {
                let at = first + column * from.col_stride;
                let low = &from.data[at..at + rows];
                let high =
                    if column + 1 < slice.end { &from.data[at + from.col_stride..][..rows] } else { &none[..rows] };
                match (<&[f32; WIDTH]>::try_from(low), <&[f32; WIDTH]>::try_from(high)) {
                    (Ok(low), Ok(high)) => *to = std::array::from_fn(|i| Pair::new(low[i], high[i])),
                    _ => to.iter_mut().zip(low.iter().zip(high)).for_each(|(to, (l, h))| *to = Pair::new(*l, *h)),
                }
            }
        } else {
            let lines: [&[f32]; WIDTH] = lines(from, first, rows, slice);
            // Rounded where numbers lie side by side, then spread.
            let mut block = [[Pair::default(); 16]; WIDTH];
            for (to, start) in to.chunks_mut(WIDTH * 16).zip((0..).step_by(32)) {
                for (block, line) in block.iter_mut().zip(&lines) {
                    let part = &line[start..(start + 32).min(line.len())];
                    match <&[f32; 32]>::try_from(part) {
                        Ok(part) => *block = std::array::from_fn(|i| Pair::new(part[2 * i], part[2 * i + 1])),
                        Err(_) => block.iter_mut().zip(part.chunks(2)).for_each(|(block, pair)| {
                            *block = Pair::new(pair[0], pair.get(1).copied().unwrap_or(0.0));
                        }),
                    }
                }
                for (k, to) in to.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
                    *to = std::array::from_fn(|i| block[i][k]);
                }
            }
        }
    }
}

/// Packs rows of a matrix from `first` on into strips of `WIDTH`: for each element of the slice those of the strip's rows.
pub fn pack<E: Element, const WIDTH: usize>(from: Mat<'_>, first: usize, slice: Range<usize>, to: &mut [E]) {
    #[inline(always)]
    fn all<E: Element, const WIDTH: usize>(from: Mat<'_>, first: usize, slice: Range<usize>, to: &mut [E]) {
        let size = WIDTH * slice.len().div_ceil(E::NUMBERS);
        for (strip, first) in to.chunks_exact_mut(size).zip((first..).step_by(WIDTH)) {
            E::strip::<WIDTH>(from, first, WIDTH.min(from.rows - first), &slice, strip);
        }
    }

    #[cfg(target_arch = "x86_64")]
    {
        use crate::model::kernels::simd::{Level, level};

        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn avx512<E: Element, const WIDTH: usize>(from: Mat<'_>, first: usize, slice: Range<usize>, to: &mut [E]) {
            all::<E, WIDTH>(from, first, slice, to);
        }
        #[target_feature(enable = "avx2")]
        fn avx2<E: Element, const WIDTH: usize>(from: Mat<'_>, first: usize, slice: Range<usize>, to: &mut [E]) {
            all::<E, WIDTH>(from, first, slice, to);
        }
        match level() {
            // SAFETY: `level` saw every feature that the function enables on this processor; the body is safe code.
            Level::Avx512 => return unsafe { avx512::<E, WIDTH>(from, first, slice, to) },
            // SAFETY: as above.
            Level::Avx2 => return unsafe { avx2::<E, WIDTH>(from, first, slice, to) },
            Level::Portable => {}
        }
    }
    all::<E, WIDTH>(from, first, slice, to);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_nearest_ties_to_even() {
        let round = |x: f32| Pair::new(x, -x).split();
        // Eight bits of mantissa: 2^-8 is half of the last place at 1.
        assert_eq!(round(1.0), [1.0, -1.0]);
        assert_eq!(round(1.0 + 1.0 / 256.0), [1.0, -1.0]);
        assert_eq!(round(1.0 + 3.0 / 256.0), [1.0 + 4.0 / 256.0, -1.0 - 4.0 / 256.0]);
        assert_eq!(round(1.0 + 1.0 / 256.0 + f32::EPSILON), [1.0 + 2.0 / 256.0, -1.0 - 2.0 / 256.0]);
        assert_eq!(round(f32::MAX), [f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(round(f32::INFINITY), [f32::INFINITY, f32::NEG_INFINITY]);
        assert!(round(f32::NAN).iter().all(|x| x.is_nan()));
        assert!(round(f32::from_bits(0x7f80_0001)).iter().all(|x| x.is_nan()));
    }
}
