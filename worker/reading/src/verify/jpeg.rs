//! Whether a JPEG has all its image data. Where some is missing the decoder makes pixels of nothing, without a word; what it
//! makes of noise instead differs. A file that is whole needs neither: what stands behind its last pixel is not looked at.

use super::Bad;

/// More than the decoder reads ahead, and enough to become pixels. Without 0xff, which begins a marker.
const NOISE: &[u8; 64] = b"Any bytes will do that are not alike and none of which is a 255.";

const PARTS_MISSING: Bad = Bad::Truncated("a JPEG file has all parts that its restarts divide it into");

const SOF_PROGRESSIVE: u8 = 0xc2;
const DRI: u8 = 0xdd;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;

/// The file with noise behind its image data. `None` for one that does not go from marker to marker: that is the decoder's
/// to judge.
pub(super) fn with_noise(bytes: &[u8]) -> Result<Option<Vec<u8>>, Bad> {
    let Some((ends, restarts_due)) = ends_of_data(bytes) else { return Ok(None) };
    // The decoder goes from the last part that is there to the end of the file.
    if restarts_due > 0 && ends.len() <= restarts_due {
        return Err(PARTS_MISSING);
    }
    let mut noisy = Vec::with_capacity(bytes.len() + ends.len() * NOISE.len());
    let (mut from, mut restarts) = (0, 0_u8);
    for end in ends {
        // Restarts are counted from 0 to 7, again and again: a gap is a part that is missing.
        if let Some(number @ 0xd0..=0xd7) = bytes.get(end + 1) {
            if number & 7 != restarts & 7 {
                return Err(PARTS_MISSING);
            }
            restarts = restarts.wrapping_add(1);
        }
        noisy.extend_from_slice(&bytes[from..end]);
        noisy.extend_from_slice(NOISE);
        from = end;
    }
    noisy.extend_from_slice(&bytes[from..]);
    Ok(Some(noisy))
}

/// Where data ends. In a progressive file: of all scans but the first, after which the decoder wants a marker at once, as it
/// does between the scans of others. Of those: of the last scan, and before each of its restarts, with the least number of
/// restarts.
fn ends_of_data(bytes: &[u8]) -> Option<(Vec<usize>, usize)> {
    let (mut scans, mut progressive, mut at) = (Vec::new(), false, 2);
    let (mut interval, mut units) = (0, 0);
    loop {
        let (0xff, marker) = (*bytes.get(at)?, *bytes.get(at + 1)?) else { return None };
        match marker {
            EOI => break,
            // Any number of them may stand before a marker.
            0xff => at += 1,
            // Without contents.
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => {
                let length = u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]);
                match marker {
                    0xc0 | 0xc1 => units = units_of(bytes.get(at..)?)?,
                    DRI => interval = two(bytes.get(at + 4..)?)?,
                    _ => {}
                }
                at += 2 + usize::from(length.max(2));
                progressive |= marker == SOF_PROGRESSIVE;
                if marker == SOS {
                    let ends = ends_of_scan(bytes, at)?;
                    at = *ends.last()?;
                    scans.push(ends);
                }
            }
        }
    }
    if progressive {
        return Some((scans.iter().skip(1).filter_map(|ends| ends.last().copied()).collect(), 0));
    }
    // Scans of single colors have units of their own.
    let restarts_due = if scans.len() == 1 && interval > 0 { units.div_ceil(interval).saturating_sub(1) } else { 0 };
    Some((scans.pop()?, restarts_due))
}

fn two(bytes: &[u8]) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(*bytes.first_chunk()?)))
}

/// How many units of data a frame has, by its header: blocks of 8 by 8, or of several where colors have fewer.
fn units_of(header: &[u8]) -> Option<usize> {
    let (height, width) = (two(header.get(5..)?)?, two(header.get(7..)?)?);
    let colors = header.get(10..)?.chunks_exact(3).take(usize::from(*header.get(9)?));
    // A single color is not divided, whatever it says.
    let factors = colors.clone().map(|color| if colors.len() == 1 { 0x11 } else { color[1] });
    let (across, down) = factors.fold((1, 1), |(x, y), factor| (x.max(factor >> 4), y.max(factor & 15)));
    Some(width.div_ceil(8 * usize::from(across)) * height.div_ceil(8 * usize::from(down)))
}

/// Restarts, and the marker that does not belong to the data.
fn ends_of_scan(bytes: &[u8], from: usize) -> Option<Vec<usize>> {
    let mut ends = Vec::new();
    for (at, pair) in bytes.get(from..)?.windows(2).enumerate() {
        match pair {
            [0xff, 0x00 | 0xff] => {}
            [0xff, 0xd0..=0xd7] => ends.push(from + at),
            [0xff, _] => {
                ends.push(from + at);
                return Some(ends);
            }
            _ => {}
        }
    }
    None
}
