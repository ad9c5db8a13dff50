//! librados and librbd, loaded at run time: nothing is linked, so that a machine without Ceph runs the drivers too.
//!
//! Types are those of `rados/librados.h` and `rbd/librbd.h`, which have not changed since Ceph 11 (2016); an error is a
//! negative error number of the system.

use nix::libc;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::ptr::{null, null_mut};

/// `RBD_IMAGE_OPTION_FORMAT`.
const FORMAT: c_int = 0;
/// `RBD_IMAGE_OPTION_DATA_POOL`.
const DATA_POOL: c_int = 10;
/// So many writes are under way at most: with records of 2 MiB, the process stays below 64 MiB of memory.
const WRITES: usize = 10;
/// The largest write, bytes: an object of an image, as it is made here.
const LARGEST_WRITE: usize = 4 << 20;

/// `rados_t`, `rados_ioctx_t`, `rbd_image_t`, `rbd_image_options_t` or `rbd_completion_t`.
type Handle = *mut c_void;
type Text = *const c_char;

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[derive(Debug)]
        struct Functions { $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* }

        impl Functions {
            fn load() -> Result<Self, String> {
                for library in [c"librados.so.2", c"librbd.so.1"] {
                    open(library)?;
                }
                $(
                    let found = find(concat!(stringify!($name), "\0"))?;
                    // SAFETY: the function of this name has this type, see the head of this file.
                    let $name = unsafe {
                        std::mem::transmute::<
                            *mut c_void,
                            unsafe extern "C" fn($($argument),*) $(-> $result)?,
                        >(found)
                    };
                )*
                Ok(Self { $($name),* })
            }
        }
    };
}

functions! {
    rados_create: fn(*mut Handle, Text) -> c_int;
    rados_conf_read_file: fn(Handle, Text) -> c_int;
    rados_conf_set: fn(Handle, Text, Text) -> c_int;
    rados_connect: fn(Handle) -> c_int;
    rados_pool_lookup: fn(Handle, Text) -> i64;
    rados_ioctx_create: fn(Handle, Text, *mut Handle) -> c_int;
    rbd_list: fn(Handle, *mut c_char, *mut usize) -> c_int;
    rbd_image_options_create: fn(*mut Handle);
    rbd_image_options_set_uint64: fn(Handle, c_int, u64) -> c_int;
    rbd_image_options_set_string: fn(Handle, c_int, Text) -> c_int;
    rbd_image_options_destroy: fn(Handle);
    rbd_create4: fn(Handle, Text, u64, Handle) -> c_int;
    rbd_rename: fn(Handle, Text, Text) -> c_int;
    rbd_open: fn(Handle, Text, *mut Handle, Text) -> c_int;
    rbd_close: fn(Handle) -> c_int;
    rbd_resize: fn(Handle, u64) -> c_int;
    rbd_flush: fn(Handle) -> c_int;
    rbd_aio_create_completion: fn(*mut c_void, *const c_void, *mut Handle) -> c_int;
    rbd_aio_write: fn(Handle, u64, usize, *const u8, Handle) -> c_int;
    rbd_aio_wait_for_complete: fn(Handle) -> c_int;
    rbd_aio_get_return_value: fn(Handle) -> isize;
    rbd_aio_release: fn(Handle);
}

/// Loads a library for all that follows.
fn open(library: &CStr) -> Result<(), String> {
    // SAFETY: a string that ends with 0. Libraries of Ceph run code when they are loaded; it starts no thread.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        return Err(format!("{} can't be loaded", library.to_string_lossy()));
    }
    Ok(())
}

fn find(name: &'static str) -> Result<*mut c_void, String> {
    // SAFETY: `functions` ends each name with 0.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr().cast()) };
    if found.is_null() {
        return Err(format!("librbd has no {}", name.trim_end_matches('\0')));
    }
    Ok(found)
}

/// A failure: an error number of the system, and what failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: i32,
    pub(super) reason: String,
}

/// The stream that was to be written has broken off: the driver has ended, or gives up.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { code: libc::EPIPE, reason: error.to_string() }
    }
}

fn checked(result: c_int, what: &str) -> Result<(), Failure> {
    if result < 0 {
        return Err(Failure { code: -result, reason: what.to_owned() });
    }
    Ok(())
}

fn text(value: &str) -> Result<CString, Failure> {
    CString::new(value)
        .map_err(|_| Failure { code: libc::EINVAL, reason: format!("{value:?} is no name") })
}

/// The libraries, and a cluster that is not connected yet.
#[derive(Debug)]
pub(super) struct Library {
    functions: Functions,
    cluster: Handle,
}

impl Library {
    /// Loads the libraries, with the configuration in `conf` (where there is none, in the usual place) and `options`.
    ///
    /// # Errors
    /// What is missing, or not understood.
    pub(super) fn load(
        conf: Option<&str>,
        user: Option<&str>,
        options: &[(&str, &str)],
    ) -> Result<Self, String> {
        let functions = Functions::load()?;
        let string = |value: &str| CString::new(value).map_err(|error| error.to_string());
        let optional = |value: Option<&str>| value.map(string).transpose();
        let pointer =
            |value: &Option<CString>| value.as_ref().map_or(null(), |value| value.as_ptr());
        let (conf, user) = (optional(conf)?, optional(user)?);
        let mut cluster = null_mut();
        // SAFETY: strings that end with 0 or null, as both functions allow; the handle is used if it was made only.
        let made = unsafe {
            match (functions.rados_create)(&raw mut cluster, pointer(&user)) {
                0 => (functions.rados_conf_read_file)(cluster, pointer(&conf)),
                error => error,
            }
        };
        if made < 0 {
            return Err("the configuration can't be read".to_owned());
        }
        for (name, value) in options {
            let (name, value) = (string(name)?, string(value)?);
            // SAFETY: as above.
            if unsafe { (functions.rados_conf_set)(cluster, name.as_ptr(), value.as_ptr()) } < 0 {
                return Err(format!("{} can't be set", name.to_string_lossy()));
            }
        }
        // Buffers stay as they are until they are written, and nothing is written twice: copies and a cache only take
        // time. Ceph before 14 has no option for the former. And the socket of a process that ends at once would be left.
        for (name, value) in [
            (c"rbd_disable_zero_copy_writes", c"false"),
            (c"rbd_cache", c"false"),
            (c"admin_socket", c""),
        ] {
            // SAFETY: as above.
            unsafe { (functions.rados_conf_set)(cluster, name.as_ptr(), value.as_ptr()) };
        }
        Ok(Self { functions, cluster })
    }

    /// Connects to the cluster, for the images of `pool`.
    ///
    /// # Errors
    /// Where the monitors don't answer or refuse the user, or there is no such pool.
    pub(super) fn connect(&self, pool: &str) -> Result<Pool<'_>, Failure> {
        let name = text(pool)?;
        let mut context = null_mut();
        // SAFETY: the handle is of `rados_create`, and connected before it is used for more.
        unsafe {
            let connected = (self.functions.rados_connect)(self.cluster);
            checked(connected, "couldn't connect to the cluster")?;
            let made =
                (self.functions.rados_ioctx_create)(self.cluster, name.as_ptr(), &raw mut context);
            checked(made, &format!("error opening pool '{pool}'"))?;
        }
        Ok(Pool { library: self, context })
    }
}

/// The images of a pool.
#[derive(Debug)]
pub(super) struct Pool<'l> {
    library: &'l Library,
    context: Handle,
}

impl Pool<'_> {
    /// Names of all images, each followed by a byte 0.
    ///
    /// # Errors
    /// Where they can't be read.
    pub(super) fn images(&self) -> Result<Vec<u8>, Failure> {
        let mut names = vec![0; 64 << 10];
        loop {
            let mut size = names.len();
            // SAFETY: the buffer has `size` bytes.
            let result = unsafe {
                let buffer = names.as_mut_ptr().cast();
                (self.library.functions.rbd_list)(self.context, buffer, &raw mut size)
            };
            match -result {
                // Others may make images meanwhile.
                libc::ERANGE => names.resize(size + (4 << 10), 0),
                libc::ENOENT => return Ok(Vec::new()),
                _ => {
                    checked(result, "listing images failed")?;
                    names.truncate(size.min(result as usize));
                    return Ok(names);
                }
            }
        }
    }

    /// Makes an image of `size` bytes, whose data go to `data_pool` where that is given.
    ///
    /// # Errors
    /// Where the name is taken, or there is no such pool for its data.
    pub(super) fn create(
        &self,
        image: &str,
        size: u64,
        data_pool: Option<&str>,
    ) -> Result<(), Failure> {
        let name = text(image)?;
        let functions = &self.library.functions;
        let data_pool = data_pool.map(text).transpose()?;
        let mut options = null_mut();
        // SAFETY: strings that end with 0; the options are destroyed once, after their last use.
        let created = unsafe {
            if let Some(pool) = &data_pool
                && (functions.rados_pool_lookup)(self.library.cluster, pool.as_ptr()) < 0
            {
                let reason = format!("data pool {} does not exist", pool.to_string_lossy());
                return Err(Failure { code: libc::ENOENT, reason });
            }
            (functions.rbd_image_options_create)(&raw mut options);
            (functions.rbd_image_options_set_uint64)(options, FORMAT, 2);
            if let Some(pool) = &data_pool {
                (functions.rbd_image_options_set_string)(options, DATA_POOL, pool.as_ptr());
            }
            let created = (functions.rbd_create4)(self.context, name.as_ptr(), size, options);
            (functions.rbd_image_options_destroy)(options);
            created
        };
        checked(created, "create error")
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// Where it is missing or the name is taken.
    pub(super) fn rename(&self, image: &str, new: &str) -> Result<(), Failure> {
        let (image, new) = (text(image)?, text(new)?);
        // SAFETY: strings that end with 0.
        let renamed = unsafe {
            (self.library.functions.rbd_rename)(self.context, image.as_ptr(), new.as_ptr())
        };
        checked(renamed, "rename error")
    }

    /// Opens an image.
    ///
    /// # Errors
    /// Where it is missing.
    pub(super) fn open(&self, image: &str) -> Result<Image<'_>, Failure> {
        let name = text(image)?;
        let functions = &self.library.functions;
        let mut handle = null_mut();
        // SAFETY: strings that end with 0; no snapshot.
        let opened =
            unsafe { (functions.rbd_open)(self.context, name.as_ptr(), &raw mut handle, null()) };
        checked(opened, "error opening image")?;
        Ok(Image { functions, handle, writes: VecDeque::new() })
    }
}

/// An image that is open. Dropped, it is closed: else the cluster would take its client for one that lives.
#[derive(Debug)]
pub(super) struct Image<'p> {
    functions: &'p Functions,
    handle: Handle,
    /// What is being written, the oldest first.
    writes: VecDeque<Write>,
}

/// A write that is under way, and the bytes that librbd reads until it is complete.
#[derive(Debug)]
struct Write {
    completion: Handle,
    bytes: Vec<u8>,
}

impl Image<'_> {
    /// A buffer of [`LARGEST_WRITE`] for the next write, once there is one that is not being written.
    ///
    /// # Errors
    /// Where an earlier write failed.
    pub(super) fn buffer(&mut self) -> Result<Vec<u8>, Failure> {
        let free = if self.writes.len() < WRITES { None } else { self.wait()? };
        Ok(free.unwrap_or_else(|| vec![0; LARGEST_WRITE]))
    }

    /// Begins to write the first `length` of `bytes` at `offset`.
    ///
    /// # Errors
    /// Where it can't be begun.
    pub(super) fn write(
        &mut self,
        bytes: Vec<u8>,
        length: usize,
        offset: u64,
    ) -> Result<(), Failure> {
        let mut completion = null_mut();
        // SAFETY: there is no function to call on completion. The bytes stay where they are until the write is complete:
        // `wait` alone takes them out of `writes`, and a vector that is moved keeps its heap.
        let begun = unsafe {
            let made =
                (self.functions.rbd_aio_create_completion)(null_mut(), null(), &raw mut completion);
            checked(made, "write error")?;
            let (data, length) = (bytes.as_ptr(), length.min(bytes.len()));
            let begun =
                (self.functions.rbd_aio_write)(self.handle, offset, length, data, completion);
            if begun < 0 {
                (self.functions.rbd_aio_release)(completion);
            }
            begun
        };
        checked(begun, "write error")?;
        self.writes.push_back(Write { completion, bytes });
        Ok(())
    }

    /// Waits for the oldest write; its buffer.
    fn wait(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let Some(Write { completion, bytes }) = self.writes.pop_front() else { return Ok(None) };
        // SAFETY: the completion belongs to this write, and is released once.
        let written = unsafe {
            (self.functions.rbd_aio_wait_for_complete)(completion);
            let written = (self.functions.rbd_aio_get_return_value)(completion);
            (self.functions.rbd_aio_release)(completion);
            written
        };
        checked(written as c_int, "write error")?;
        Ok(Some(bytes))
    }

    /// Makes the image `size` bytes long, once all has been written.
    ///
    /// # Errors
    /// Where a write or this failed.
    pub(super) fn resize(&mut self, size: u64) -> Result<(), Failure> {
        while self.wait()?.is_some() {}
        // SAFETY: the image is open.
        checked(unsafe { (self.functions.rbd_resize)(self.handle, size) }, "resize error")
    }

    /// Waits until all that was written is in the cluster.
    ///
    /// # Errors
    /// Where a write failed.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        while self.wait()?.is_some() {}
        // SAFETY: the image is open.
        checked(unsafe { (self.functions.rbd_flush)(self.handle) }, "flush error")
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        while !self.writes.is_empty() {
            let _ = self.wait();
        }
        // SAFETY: the image is open, nothing is being written, and nothing uses it after this.
        unsafe { (self.functions.rbd_close)(self.handle) };
    }
}

/// Ends the process as it is: what librados does at an ordinary end may abort (Ceph 16), and serves no one.
pub(super) fn end(code: i32) -> ! {
    // SAFETY: no memory is touched.
    unsafe { libc::_exit(code) }
}
