//! Room inside a compiled object for one value that the data plane derives from it.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;

/// A place for one value that a user of the snapshot computes from a compiled object on first use, such as the metric
/// handles of a rule.
///
/// It keeps the type of that value out of this crate and the look-up of it out of the request path: later reads cost
/// one atomic load and a type check.
#[derive(Default)]
pub struct Slot(OnceLock<Box<dyn Any + Send + Sync>>);

impl Slot {
    /// The value of type `T`, made by `init` when the slot is empty.
    ///
    /// `None` when the slot already holds a value of another type: a slot has one user.
    pub fn get_or_init<T: Any + Send + Sync>(&self, init: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Box::new(init())).downcast_ref()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Slot(filled)" } else { "Slot(empty)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_keeps_its_first_value_and_its_type() {
        let slot = Slot::default();
        assert_eq!(slot.get_or_init(|| 1_u32), Some(&1));
        assert_eq!(slot.get_or_init(|| 2_u32), Some(&1));
        assert_eq!(slot.get_or_init(|| 3_u64), None);
    }
}
