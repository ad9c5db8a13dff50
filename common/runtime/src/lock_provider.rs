//! Locks that another machine holds: the driver on a bridge host works under the front-end's.

use std::any::Any;
use std::sync::OnceLock;

/// A lock, held for as long as this lives.
pub type Held = Box<dyn Any + Send>;

/// Where locks are acquired.
pub trait LockProvider: Send + Sync {
    /// Waits for the lock `name`. A second one is acquired only once the first has been released.
    ///
    /// # Errors
    /// Why it can't be had.
    fn acquire(&self, name: &str) -> Result<Held, String>;

    /// Releases a lock that was acquired ahead, where nothing needs it for a while.
    fn release_early(&self);
}

static PROVIDER: OnceLock<Box<dyn LockProvider>> = OnceLock::new();

/// Has locks acquired from `provider` from now on.
pub fn set_provider(provider: impl LockProvider + 'static) {
    let _ = PROVIDER.set(Box::new(provider));
}

/// The lock `name`, where another machine holds the locks.
pub fn acquire_remote(name: &str) -> Option<Result<Held, String>> {
    PROVIDER.get().map(|provider| provider.acquire(name))
}

/// As [`LockProvider::release_early`].
pub fn release_early() {
    if let Some(provider) = PROVIDER.get() {
        provider.release_early();
    }
}
