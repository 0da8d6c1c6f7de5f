//! A growing set of small numbers, one bit each: ten million tasks are a megabyte.

#[derive(Debug, Clone, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    pub(crate) fn has(&self, at: u64) -> bool {
        self.words.get(place(at)).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// False when it was there already.
    pub(crate) fn insert(&mut self, at: u64) -> bool {
        let place = place(at);
        if place >= self.words.len() {
            self.words.resize(place + 1, 0);
        }
        let fresh = !self.has(at);
        self.words[place] |= 1 << (at % 64);
        fresh
    }
}

fn place(at: u64) -> usize {
    usize::try_from(at / 64).expect("numbers of tasks and chunks fit into memory")
}
