//! Locks that another machine keeps: the driver on a bridge host works under the front-end's.

use std::any::Any;
use std::sync::OnceLock;

/// A lock, held for as long as this lives.
pub type Held = Box<dyn Any + Send>;

/// What keeps the locks.
pub trait LockProvider: Send + Sync {
    /// Waits for the lock `name`. A second one is given only once the first has been released.
    ///
    /// # Errors
    /// Why it can't be had.
    fn acquire(&self, name: &str) -> Result<Held, String>;

    /// Gives back what was lent unasked, where nothing needs it for a while.
    fn release_early(&self);
}

static PROVIDER: OnceLock<Box<dyn LockProvider>> = OnceLock::new();

/// Has `keeper` lend the locks from now on.
pub fn set_provider(keeper: impl LockProvider + 'static) {
    let _ = PROVIDER.set(Box::new(keeper));
}

/// The lock `name`, where locks are kept elsewhere.
pub fn acquire_remote(name: &str) -> Option<Result<Held, String>> {
    PROVIDER.get().map(|keeper| keeper.acquire(name))
}

/// As [`LockProvider::release_early`].
pub fn release_early() {
    if let Some(keeper) = PROVIDER.get() {
        keeper.release_early();
    }
}
