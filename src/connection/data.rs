//! The application's own data, by type.

use std::any::Any;

/// A few values of different types, looked up by their type.
#[derive(Default)]
pub(crate) struct Data(Vec<Box<dyn Any>>);

impl Data {
    /// Returns the value of type `T`, created by `T::default()` on first use.
    pub(super) fn get<T: Default + 'static>(&mut self) -> &mut T {
        let at = self
            .0
            .iter()
            .position(|value| value.is::<T>())
            .unwrap_or_else(|| {
                self.0.push(Box::new(T::default()));
                self.0.len() - 1
            });
        self.0[at]
            .downcast_mut()
            .expect("the value at this place was just found to be a T")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_type() {
        let mut data = Data::default();
        *data.get::<u32>() += 7;
        data.get::<String>().push('x');
        *data.get::<u32>() += 1;
        assert_eq!(*data.get::<u32>(), 8);
        assert_eq!(data.get::<String>(), "x");
        assert_eq!(data.0.len(), 2);
    }
}
