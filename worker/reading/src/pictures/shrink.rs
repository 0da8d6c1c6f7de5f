//! A picture made smaller while it is decoded: each of its pixels is added to the one it falls into, in any order, so
//! that the large one is never held for it. No side grows.

use crate::verify::SIDE_MAX;
use std::fmt;
use std::ops::Range;

/// A small picture, while pixels of the large one are added to it.
#[derive(Clone, PartialEq)]
pub struct Shrink {
    /// For each column of the large picture, that of the small one it falls into.
    columns: Vec<u32>,
    /// The same of the lines.
    lines: Vec<u32>,
    small: Small,
}

/// A picture of red, green and blue.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Small {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixels: Vec<[f32; 3]>,
}

impl fmt::Debug for Shrink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shrink({}x{} to {}x{})", self.columns.len(), self.lines.len(), self.small.width, self.small.height)
    }
}

impl Shrink {
    /// For a large picture of these sides; `None` where it has none, or more than any may have.
    pub(crate) fn new(width: u32, height: u32, side_max: u32) -> Option<Shrink> {
        let sides = 1..=SIDE_MAX;
        if !sides.contains(&width) || !sides.contains(&height) {
            return None;
        }
        let longest = width.max(height).max(side_max);
        let shorter = |side: u32| (side * side_max / longest).max(1);
        let small = Small::black(shorter(width), shorter(height));
        // Below 2^15 each, their product is below 2^32.
        let columns = (0..width).map(|column| column * small.width / width).collect();
        let lines = (0..height).map(|line| line * small.height / height).collect();
        Some(Shrink { columns, lines, small })
    }

    /// Where samples of the large picture go that lie in one line of it, from `(x, y)` on, into these of the three
    /// colors; `None` where the line lies outside.
    pub(crate) fn line(&mut self, x: i64, y: i64, colors: Range<usize>) -> Option<Line<'_>> {
        let line = *self.lines.get(usize::try_from(y).ok()?)? as usize;
        let width = self.small.width as usize;
        let pixels = self.small.pixels.get_mut(line * width..)?.get_mut(..width)?;
        Some(Line { columns: &self.columns, pixels, next: x, colors })
    }

    /// The mean of what was added; where nothing was, it is black.
    pub(super) fn finish(self) -> Small {
        let Shrink { columns, lines, mut small } = self;
        let (across, down) = (counts(&columns, small.width), counts(&lines, small.height));
        for (pixels, down) in small.pixels.chunks_exact_mut(small.width as usize).zip(&down) {
            for (pixel, across) in pixels.iter_mut().zip(&across) {
                *pixel = pixel.map(|sum| sum / (across * down));
            }
        }
        small
    }
}

/// How many of the large picture's fall into each of the small one's.
fn counts(into: &[u32], count: u32) -> Vec<f32> {
    let mut counts = vec![0.0; count as usize];
    for at in into {
        counts[*at as usize] += 1.0;
    }
    counts
}

/// One line of the large picture on its way into the small one.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    columns: &'a [u32],
    pixels: &'a mut [[f32; 3]],
    next: i64,
    colors: Range<usize>,
}

impl Line<'_> {
    /// The next sample, of each of the line's colors.
    pub(crate) fn add(&mut self, sample: f32) {
        let colors = self.colors.clone();
        if let Some(pixel) = self.pixel()
            && let Some(colors) = pixel.get_mut(colors)
        {
            for color in colors {
                *color += sample;
            }
        }
    }

    /// The next pixel, of all three.
    pub(crate) fn add_pixel(&mut self, samples: [f32; 3]) {
        if let Some(pixel) = self.pixel() {
            for (color, sample) in pixel.iter_mut().zip(samples) {
                *color += sample;
            }
        }
    }

    fn pixel(&mut self) -> Option<&mut [f32; 3]> {
        let column = usize::try_from(self.next).ok();
        self.next += 1;
        self.pixels.get_mut(*self.columns.get(column?)? as usize)
    }
}

impl Small {
    fn black(width: u32, height: u32) -> Small {
        Small { width, height, pixels: vec![[0.0; 3]; width as usize * height as usize] }
    }

    pub(super) fn smaller(self, side_max: u32) -> Small {
        let Some(mut shrink) = Shrink::new(self.width, self.height, side_max) else { return self };
        for (y, pixels) in self.pixels.chunks_exact(self.width as usize).enumerate() {
            let Some(mut line) = i64::try_from(y).ok().and_then(|y| shrink.line(0, y, 0..3)) else { continue };
            for pixel in pixels {
                line.add_pixel(*pixel);
            }
        }
        shrink.finish()
    }
}
