//! A disk that fails when it is told to, and remembers what was done to it, so that it can say what it
//! might hold after a power cut.

use super::vfs;
use rand::RngExt;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use tempfile::TempDir;
use test_support::state::{self, State};

/// A call that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Open,
    Read,
    Write,
    Sync,
    Truncate,
    Delete,
    MapShared,
}

/// How a call fails. All but writes know only `Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing is done.
    Error,
    /// Half of it is written, then there is an error.
    Torn,
    /// Half of it is written, then there is no room.
    Full,
    /// Half of it is written, then a quota is used up.
    Quota,
}

/// What is to fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub call: Call,
    /// Only calls on files whose names end so count.
    pub of: &'static str,
    /// The first of the calls that fails; the first of all is 0.
    pub nth: usize,
    pub failure: Failure,
    /// True if all later ones fail too, until the disk is mended.
    pub lasting: bool,
}

/// Something done to the disk. Files are numbers: a name may stand for another file later.
pub enum Event {
    Create {
        name: String,
        file: usize,
    },
    Delete {
        name: String,
        with_names: bool,
    },
    Write {
        file: usize,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: usize,
        size: u64,
    },
    Sync {
        file: usize,
        succeeds: bool,
        with_names: bool,
    },
}

/// What files hold, by their names.
pub type Image = BTreeMap<String, Vec<u8>>;

/// A folder on a disk of its own.
pub struct Disk {
    folder: TempDir,
    done: Mutex<Done>,
}

/// What was done to a disk, and what is to fail.
#[derive(Default)]
struct Done {
    fault: Option<Fault>,
    /// True while nothing fails and nothing counts.
    is_spared: bool,
    /// How often each call was made, on files whose names end as the fault says.
    calls: BTreeMap<Call, usize>,
    failed: usize,
    /// The file that each name stands for now, and the names of all that there ever were.
    names: BTreeMap<String, usize>,
    files: Vec<String>,
    events: Vec<Event>,
}

/// The disks there are, by their folders.
static DISKS: Mutex<BTreeMap<PathBuf, Weak<Disk>>> = Mutex::new(BTreeMap::new());

impl Disk {
    /// A disk without files.
    pub fn new() -> Arc<Self> {
        Self::with(&Image::new())
    }

    /// A disk with these files, all synced.
    pub fn with(image: &Image) -> Arc<Self> {
        vfs::register();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut done = Done::default();
        for (name, bytes) in image {
            std::fs::write(folder.path().join(name), bytes).expect("write");
            let file = done.create(name);
            done.events.push(Event::Write {
                file,
                offset: 0,
                bytes: bytes.clone(),
            });
            done.events.push(Event::Sync {
                file,
                succeeds: true,
                with_names: true,
            });
        }
        let path = folder.path().canonicalize().expect("a path");
        let disk = Arc::new(Self {
            folder,
            done: Mutex::new(done),
        });
        let mut disks = DISKS.lock().expect("disks");
        disks.retain(|_, disk| disk.strong_count() > 0);
        disks.insert(path, Arc::downgrade(&disk));
        disk
    }

    /// The disk that stands for a file's folder.
    pub(super) fn of(path: &Path) -> Option<Arc<Self>> {
        DISKS.lock().expect("disks").get(path.parent()?)?.upgrade()
    }

    /// The database on it.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("jobs.db")
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().expect("what was done to a disk")
    }

    /// Lets something fail. Calls count from now on.
    pub fn break_by(&self, fault: Fault) {
        let mut done = self.done();
        done.fault = Some(fault);
        done.calls.clear();
        done.failed = 0;
    }

    /// Nothing fails from now on.
    pub fn repair(&self) {
        self.done().fault = None;
    }

    /// Does something during which nothing fails and no call counts.
    pub fn spared<T>(&self, run: impl FnOnce() -> T) -> T {
        self.done().is_spared = true;
        let result = run();
        self.done().is_spared = false;
        result
    }

    /// Looks at the database, and checks it.
    pub fn look(&self) -> State {
        self.spared(|| state::look_at(&self.database()))
    }

    /// How many calls have failed since it was broken.
    pub fn failed(&self) -> usize {
        self.done().failed
    }

    /// How many of these calls were made since it was broken, on files that the fault is about.
    pub fn calls(&self, call: Call) -> usize {
        self.done().calls.get(&call).copied().unwrap_or(0)
    }

    /// How much has been done to it. Never goes back.
    pub fn time(&self) -> usize {
        self.done().events.len()
    }

    pub(super) fn enter(&self, call: Call, path: Option<&Path>) -> Result<(), Failure> {
        let name = path.and_then(Path::file_name);
        self.done()
            .enter(call, &name.unwrap_or_default().to_string_lossy())
    }

    pub(super) fn enter_file(&self, call: Call, file: usize) -> Result<(), Failure> {
        let mut done = self.done();
        let name = done.files.get(file).cloned().unwrap_or_default();
        done.enter(call, &name)
    }

    /// Notes that a file was opened or made. Gives its number.
    pub(super) fn note_open(&self, path: &Path) -> usize {
        let name = path.file_name().expect("a name").to_string_lossy();
        let mut done = self.done();
        match done.names.get(&*name) {
            Some(file) => *file,
            None => done.create(&name),
        }
    }

    pub(super) fn note_delete(&self, path: &Path, with_names: bool) {
        let name = path.file_name().expect("a name").to_string_lossy();
        let mut done = self.done();
        done.names.remove(&*name);
        done.events.push(Event::Delete {
            name: name.into_owned(),
            with_names,
        });
    }

    pub(super) fn note(&self, event: Event) {
        self.done().events.push(event);
    }

    /// What the disk may hold if its power is cut at this time: what was synced, and of the rest
    /// whatever chance leaves, in sectors, some of them torn.
    pub fn after_power_cut(&self, time: usize, random: &mut SmallRng) -> Image {
        let done = self.done();
        let mut contents: Vec<Vec<Change<'_>>> = Vec::new();
        let mut names = BTreeMap::new();
        let mut synced_names = BTreeMap::new();
        for event in &done.events[..time] {
            match event {
                Event::Create { name, file } => {
                    contents.resize_with(contents.len().max(file + 1), Vec::new);
                    names.insert(name.as_str(), *file);
                }
                Event::Delete { name, with_names } => {
                    names.remove(name.as_str());
                    if *with_names {
                        synced_names.clone_from(&names);
                    }
                }
                Event::Write { file, .. } | Event::Truncate { file, .. } => {
                    contents[*file].push(Change {
                        event,
                        state: Synced::NotYet,
                    });
                }
                Event::Sync {
                    file,
                    succeeds,
                    with_names,
                } => {
                    for change in &mut contents[*file] {
                        if change.state == Synced::NotYet {
                            change.state = if *succeeds {
                                Synced::Yes
                            } else {
                                Synced::Never
                            };
                        }
                    }
                    if *succeeds && *with_names {
                        synced_names.clone_from(&names);
                    }
                }
            }
        }
        let keeps = [0.0, 0.5, 0.9, 1.0][random.random_range(0..4)];
        let sector = [512, 4096][random.random_range(0..2)];
        let mut image = Image::new();
        let all_names: BTreeSet<&str> = names.keys().chain(synced_names.keys()).copied().collect();
        for name in all_names {
            let of = if random.random_bool(0.5) {
                &names
            } else {
                &synced_names
            };
            if let Some(file) = of.get(name) {
                let content = settle(&contents[*file], keeps, sector, random);
                image.insert(name.to_owned(), content);
            }
        }
        image
    }
}

impl Done {
    fn create(&mut self, name: &str) -> usize {
        let file = self.files.len();
        self.files.push(name.to_owned());
        self.names.insert(name.to_owned(), file);
        self.events.push(Event::Create {
            name: name.to_owned(),
            file,
        });
        file
    }

    fn enter(&mut self, call: Call, name: &str) -> Result<(), Failure> {
        let Some(fault) = self.fault.filter(|_| !self.is_spared) else {
            return Ok(());
        };
        if !name.ends_with(fault.of) {
            return Ok(());
        }
        let count = self.calls.entry(call).or_default();
        let number = *count;
        *count += 1;
        let fails =
            call == fault.call && (number == fault.nth || fault.lasting && number > fault.nth);
        if !fails {
            return Ok(());
        }
        self.failed += 1;
        Err(fault.failure)
    }
}

/// A change of a file's content.
struct Change<'a> {
    event: &'a Event,
    state: Synced,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Synced {
    Yes,
    NotYet,
    /// A sync failed. The system then takes the pages for written, and a later sync succeeds without
    /// having written them.
    Never,
}

/// What a file holds after a power cut.
fn settle(changes: &[Change<'_>], keeps: f64, sector: u64, random: &mut SmallRng) -> Vec<u8> {
    let mut content = Vec::new();
    for change in changes {
        let is_sure = change.state == Synced::Yes;
        match change.event {
            Event::Truncate { size, .. } if is_sure || random.random_bool(keeps) => {
                content.resize(usize::try_from(*size).expect("a size"), 0);
            }
            Event::Write { offset, bytes, .. } if is_sure => put(&mut content, *offset, bytes),
            Event::Write { offset, bytes, .. } => {
                let (mut offset, mut bytes) = (*offset, bytes.as_slice());
                while !bytes.is_empty() {
                    let to_boundary = usize::try_from(sector - offset % sector).expect("a length");
                    let (piece, rest) = bytes.split_at(to_boundary.min(bytes.len()));
                    if random.random_bool(0.05) {
                        put(
                            &mut content,
                            offset,
                            &piece[..random.random_range(0..piece.len())],
                        );
                    } else if random.random_bool(keeps) {
                        put(&mut content, offset, piece);
                    } else if random.random_bool(0.5) {
                        // The file is longer, but what is in it never came.
                        let end = usize::try_from(offset).expect("a length") + piece.len();
                        content.resize(content.len().max(end), 0);
                    }
                    offset += piece.len() as u64;
                    bytes = rest;
                }
            }
            // A truncation that never came about.
            _ => {}
        }
    }
    content
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = usize::try_from(offset).expect("an offset");
    let end = start + bytes.len();
    content.resize(content.len().max(end), 0);
    content[start..end].copy_from_slice(bytes);
}
