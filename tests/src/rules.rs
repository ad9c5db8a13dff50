//! The rules that a refusal can be about. The words of an error stand here and not in the tests: a change of them changes
//! one line of this file.

/// A rule that a message, or what it leads to, can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A path lies in a restricted directory, and in no safe one.
    Restricted,
    /// A directory holds a restricted one.
    HoldsRestricted,
    /// A path must be absolute.
    NotAbsolute,
    /// A file must be there, and readable.
    CantBeOpened,
    /// Only some types of files can be registered.
    WrongFileType,
    /// A file must not have names elsewhere, where the kernel does not protect them.
    HardLinks,
    /// A file must lie on a disk.
    PseudoFile,
    /// An image must not be empty.
    Empty,
    /// The format is not one that is accepted.
    FormatNotAccepted,
    /// A file could be of two formats.
    Ambiguous,
    /// The virtual size is limited.
    VirtualSizeLimit,
    /// A file must not be compressed twice.
    CompressedTwice,
    /// An image must not refer to other files.
    DataElsewhere,
    /// An image must not be encrypted by its format.
    Encrypted,
    /// An image must not be corrupt.
    Corrupt,
    /// The image's bytes must be readable.
    Unreadable,
    /// A backing file must be a usable one of the same datastore.
    BackingFile,
    /// The message must have the attribute.
    MissingAttribute,
    /// A value has a form.
    NotValid,
    /// The kind of datastore has no such action.
    NotSupported,
    /// The datastore's driver must be one of these.
    UnknownDriver,
    /// The datastore must be of the image's type.
    WrongDatastoreType,
    /// The action must be for images of this type.
    WrongImageType,
    /// The snapshot must exist.
    NoSuchSnapshot,
    /// The live disk is no snapshot.
    LiveDisk,
    /// Another snapshot depends on this one.
    HasDependents,
    /// A file of the snapshots points elsewhere.
    StrayPointer,
    /// The image must have the digest.
    DigestMismatch,
    /// The server must answer.
    NoResponse,
    /// The connection must last.
    ConnectionBroke,
    /// The server must deliver the file.
    HttpStatus,
    /// The file must be fetchable.
    CantBeFetched,
    /// A URL has a character that it must not have.
    UrlCharacter,
    /// A URL names no host.
    UrlWithoutHost,
    /// The size must be known without a download.
    CantBeMeasured,
    /// A bridge host must be usable.
    NoUsableHost,
    /// The message must be well-formed.
    NotXml,
    /// The message must be XML or base64.
    NotBase64,
    /// There must be a message.
    NoMessage,
    /// A program that does the work failed.
    CommandFailed,
    /// A program must end in time.
    TimedOut,
    /// A program must be installed.
    NotInstalled,
    /// The datastore must have space.
    NoSpace,
    /// The datastore must be writable.
    NotWritable,
    /// Another action holds the image's lock.
    InUse,
    /// The image must not be larger than what SIZE or the limit allows.
    LargerThanAllowed,
    /// A password must not reach the list of processes.
    PasswordShown,
    /// A URL for OpenNebula's downloader has only harmless characters.
    UnsafeCharacters,
    /// A vmdk must hold all its data itself.
    DescriptorLine,
    /// An image must not be a difference to another.
    HasParent,
    /// The format must be raw or qcow2.
    UnknownFormat,
    /// The datastore's directory must be one that can be made.
    CantBeCreated,
    /// An empty image has one of some formats.
    CantBeMade,
    /// A size must be one that a file can have.
    MoreThanAFileHolds,
    /// The file system must be supported.
    FileSystemNotSupported,
    /// An image of the datastore lies directly in its directory.
    NotInTheDatastore,
    /// A file must be readable.
    CantBeRead,
    /// A URL of ssh has a host and a path.
    SshUrl,
    /// The image's file must be there.
    ImageFileUnusable,
    /// A host has a name of harmless characters.
    HostName,
    /// The message must not be empty.
    EmptyMessage,
    /// The URL's scheme must be known.
    UnknownScheme,
    /// An image must not be a link to elsewhere.
    LinkOutOfDatastore,
    /// No other export may be mounted where the datastore's belongs.
    OtherMount,
    /// The datastore's export must be one that can be mounted.
    CantBeMounted,
    /// STAGING_DIR must be a directory that drivers can be put into.
    DriverDirectory,
    /// A file system must fit into the disk.
    FileSystemDoesNotFit,
    /// IMAGE/SOURCE must be the image's own.
    NotTheImagesOwn,
    /// No other image may read from it.
    ReadByOthers,
    /// IMAGE/PATH must be an image of such a datastore.
    NoImageOfTheKind,
    /// The snapshot's volume must exist.
    NoSuchVolume,
    /// The RBD image must have the snapshot.
    NoSuchRbdSnapshot,
    /// A compressed file must be whole.
    DamagedData,
    /// The window of a compressed file is limited.
    WindowTooLarge,
    /// The members of an appliance must be what its manifest says.
    ManifestMismatch,
    /// The image must be writable to its end.
    WriteFailed,
    /// The disk must work.
    DiskFailed,
    /// An archive must be whole.
    DamagedArchive,
    /// An archive must be one that can be read to its end, with few names.
    ArchiveNotRead,
    /// The OVF file of an appliance must be in order.
    OvfFile,
    /// Of several disks one must be named.
    SeveralDisks,
    /// An archive must hold a disk.
    NoDiskInside,
    /// The members of an archive have different names.
    TwoMembers,
    /// An image must have no features that are not known.
    UnknownFeature,
    /// The archive's format must be one that is read.
    UnreadFormat,
    /// A page or an error of a server is no disk.
    TextAndNoDisk,
}

impl Rule {
    /// The rules that a disk image can break by its content.
    pub const OF_IMAGES: &[Self] = &[
        Self::Empty,
        Self::FormatNotAccepted,
        Self::Ambiguous,
        Self::VirtualSizeLimit,
        Self::CompressedTwice,
        Self::DataElsewhere,
        Self::Encrypted,
        Self::Corrupt,
        Self::Unreadable,
        Self::BackingFile,
        Self::DescriptorLine,
        Self::HasParent,
        Self::UnknownFeature,
        Self::LargerThanAllowed,
        Self::TextAndNoDisk,
        Self::CommandFailed,
    ];

    /// The rules that an archive can break.
    pub const OF_ARCHIVES: &[Self] = &[
        Self::DamagedArchive,
        Self::ArchiveNotRead,
        Self::OvfFile,
        Self::SeveralDisks,
        Self::NoDiskInside,
        Self::TwoMembers,
        Self::UnreadFormat,
        Self::ManifestMismatch,
    ];

    /// The words of the error by which a user knows the rule.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Restricted => "lies in the restricted directory",
            Self::HoldsRestricted => "holds the restricted directory",
            Self::NotAbsolute => "is not an absolute path",
            Self::CantBeOpened => "can't be opened",
            Self::WrongFileType => "can be registered in this datastore",
            Self::HardLinks => "names (hard links)",
            Self::PseudoFile => "is on a pseudo file system",
            Self::Empty => "is empty: give a file that holds an image",
            Self::FormatNotAccepted => "file, which is not accepted",
            Self::Ambiguous => "so it is not accepted",
            Self::VirtualSizeLimit => "has a virtual size of",
            Self::CompressedTwice => "holds another compressed file",
            Self::DataElsewhere => "an image must hold all its data itself",
            Self::Encrypted => "image encrypted with",
            Self::Corrupt => "it is a corrupt",
            Self::Unreadable => "reading the image failed at byte",
            Self::BackingFile => "has the backing file",
            Self::MissingAttribute => "is missing or empty in the message",
            Self::NotValid => "is not valid: it must be",
            Self::NotSupported => "is not supported by DS_MAD",
            Self::UnknownDriver => "is not served by these drivers",
            Self::WrongDatastoreType => "use a datastore of the right type",
            Self::WrongImageType => "is not one that",
            Self::NoSuchSnapshot => "does not exist",
            Self::LiveDisk => "is the live disk",
            Self::HasDependents => "still backs on",
            Self::StrayPointer => "is no file of this image's snapshots",
            Self::DigestMismatch => "does not match: the image has",
            Self::NoResponse => "closed the connection without a response",
            Self::ConnectionBroke => "the connection broke after",
            Self::HttpStatus => "the server says",
            Self::CantBeFetched => "can't be fetched",
            Self::UrlCharacter => "which no URL can have",
            Self::UrlWithoutHost => "names no host",
            Self::CantBeMeasured => "can't be measured",
            Self::NoUsableHost => "names no host that can be used",
            Self::NotXml => "is not well-formed DS_DRIVER_ACTION_DATA",
            Self::NotBase64 => "is neither XML nor base64",
            Self::NoMessage => "no message: give it",
            Self::CommandFailed => "failed",
            Self::TimedOut => "timed out after",
            Self::NotInstalled => "is not installed",
            Self::NoSpace => "no space left",
            Self::NotWritable => "must be writable",
            Self::InUse => "is in use:",
            Self::LargerThanAllowed => "it is larger than",
            Self::PasswordShown => "would show to",
            Self::UnsafeCharacters => "can't be trusted with",
            Self::DescriptorLine => "has the descriptor line",
            Self::HasParent => "is a difference to a parent",
            Self::UnknownFormat => "is no format that images can be kept in",
            Self::CantBeCreated => "can't be created",
            Self::CantBeMade => "can't be made: it must be",
            Self::MoreThanAFileHolds => "is more MiB than a file can hold",
            Self::FileSystemNotSupported => "is not supported: it must be one of",
            Self::NotInTheDatastore => "is not directly in DATASTORE/BASE_PATH",
            Self::CantBeRead => "can't be read",
            Self::SshUrl => "it must be ssh://[user@]host:path",
            Self::ImageFileUnusable => "can't be used: No such file",
            Self::HostName => "is no host's name",
            Self::EmptyMessage => "the message is empty",
            Self::UnknownScheme => "which nothing here knows",
            Self::LinkOutOfDatastore => "is a link that leads out of the datastore",
            Self::OtherMount => "mounted on it, and not",
            Self::CantBeMounted => "can't be mounted",
            Self::DriverDirectory => "is not a directory for drivers",
            Self::FileSystemDoesNotFit => "can't be made on a disk of",
            Self::NotTheImagesOwn => "only the datastore's own images are touched",
            Self::ReadByOthers => " read from",
            Self::NoImageOfTheKind => "is no image of a",
            Self::NoSuchVolume => "is not there:",
            Self::NoSuchRbdSnapshot => "is no snapshot of",
            Self::DamagedData => "data is damaged or cut off",
            Self::WindowTooLarge => "needs a window of more than",
            Self::ManifestMismatch => "which is not what its manifest says",
            Self::WriteFailed => "writing the image failed at byte",
            Self::DiskFailed => "Input/output error",
            Self::DamagedArchive => "is a damaged",
            Self::ArchiveNotRead => " archive ",
            Self::OvfFile => "is an appliance whose OVF file",
            Self::SeveralDisks => "choose one by its number or name",
            Self::NoDiskInside => "holds no disk image",
            Self::TwoMembers => "holds two members named",
            Self::UnknownFeature => " image that ",
            Self::UnreadFormat => "which is not read here",
            Self::TextAndNoDisk => "text and no disk",
        }
    }
}
