//! Locks that another machine keeps: the driver on a bridge host works under the front-end's.

use std::any::Any;
use std::sync::OnceLock;

/// A lock, held for as long as this lives.
pub type Held = Box<dyn Any + Send>;

/// Whoever keeps the locks.
pub trait Keeper: Send + Sync {
    /// Waits for the lock `name`. A second one is given only once the first has been given back.
    ///
    /// # Errors
    /// Why it can't be had.
    fn lend(&self, name: &str) -> Result<Held, String>;

    /// Gives back what was lent unasked, where nothing needs it for a while.
    fn decline(&self);
}

static KEEPER: OnceLock<Box<dyn Keeper>> = OnceLock::new();

/// Has `keeper` lend the locks from now on.
pub fn kept_by(keeper: impl Keeper + 'static) {
    let _ = KEEPER.set(Box::new(keeper));
}

/// The lock `name`, where locks are kept elsewhere.
pub fn borrow(name: &str) -> Option<Result<Held, String>> {
    KEEPER.get().map(|keeper| keeper.lend(name))
}

/// As [`Keeper::decline`].
pub fn decline() {
    if let Some(keeper) = KEEPER.get() {
        keeper.decline();
    }
}
