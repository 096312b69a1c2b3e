//! Slots of recurrent state: one for each running sequence, and checkpoints, which hold the state after a prefix. There
//! are few, so their order of use is a plain list.

/// All slots of a device.
#[derive(Debug)]
pub(super) struct Slots {
    /// Slots for sequences.
    free: Vec<u32>,
    /// Empty slots for checkpoints.
    spare: Vec<u32>,
    /// Checkpoints and their prefixes, least recently used first.
    kept: Vec<(u32, u64)>,
    #[cfg(test)]
    count: usize,
}

impl Slots {
    pub(super) fn new(sequences: usize, checkpoints: usize) -> Self {
        let (sequences, all) = (sequences as u32, (sequences + checkpoints) as u32);
        Slots {
            free: (0..sequences).rev().collect(),
            spare: (sequences..all).rev().collect(),
            kept: Vec::new(),
            #[cfg(test)]
            count: all as usize,
        }
    }

    /// A slot for a sequence.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Ends what [`Slots::take`] began.
    pub(super) fn give(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Slots in which a checkpoint is.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Whether there are checkpoints at all.
    pub(super) fn keeps(&self) -> bool {
        !(self.spare.is_empty() && self.kept.is_empty())
    }

    /// Whether a checkpoint needs no other's place.
    pub(super) fn has_spare(&self) -> bool {
        !self.spare.is_empty()
    }

    /// A slot for the state after `prefix`, and the prefix whose checkpoint it was. `must` evicts the one unused for
    /// longest when none is spare.
    pub(super) fn keep(&mut self, prefix: u64, must: bool) -> Option<(u32, Option<u64>)> {
        let (slot, evicted) = match self.spare.pop() {
            Some(slot) => (slot, None),
            None if must && !self.kept.is_empty() => {
                let (slot, prefix) = self.kept.remove(0);
                (slot, Some(prefix))
            }
            None => return None,
        };
        self.kept.push((slot, prefix));
        Some((slot, evicted))
    }

    /// Notes that a checkpoint was used.
    pub(super) fn touch(&mut self, slot: u32) {
        if let Some(index) = self.kept.iter().position(|&(kept, _)| kept == slot) {
            let kept = self.kept.remove(index);
            self.kept.push(kept);
        }
    }

    /// Empties the slot of a checkpoint.
    pub(super) fn forget(&mut self, slot: u32) {
        let before = self.kept.len();
        self.kept.retain(|&(kept, _)| kept != slot);
        if self.kept.len() < before {
            self.spare.push(slot);
        }
    }

    /// Slots by state: free, spare, kept.
    #[cfg(test)]
    pub(super) fn counts(&self) -> [usize; 3] {
        [self.free.len(), self.spare.len(), self.kept.len()]
    }

    /// Slots in all.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Checkpoints and their prefixes.
    #[cfg(test)]
    pub(super) fn all_kept(&self) -> &[(u32, u64)] {
        &self.kept
    }
}
