//! From the embedded object to a running datapath: load, pin, attach; and off again.
//!
//! Everything that forwarding needs is pinned under `/sys/fs/bpf/weir/INSTANCE/`: `maps/` by name, `prog`, the program
//! array that belongs to it under `progs/`, and a link for each interface under `links/`. An agent that starts takes
//! the pinned maps over, loads its own program on them, and swaps it into each pinned link: the interface is never
//! without one. An agent that ends leaves all of it behind.

use std::path::{Path, PathBuf};
use std::{fs, io};

use aya::maps::{MapData, ProgramArray};
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::ABI_VERSION;
use lb_common::abi::Settings;
use lb_common::limits::{INDEX_WAYS, SESSIONS_MIN};
use lb_common::names;

use super::DatapathError;
use super::bpf::BpfDatapath;
use super::diagnose;
use crate::config::AttachMode;
use crate::network::Link;

/// The BPF object, as the build made it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir_bpf"));

/// Why the datapath could not be loaded, attached or taken off.
#[derive(thiserror::Error, Debug)]
pub enum LoadError {
    /// The kernel refused something.
    #[error("{what}: {cause}; {hint}")]
    Refused {
        /// What was tried.
        what: String,
        /// What the kernel said, to the last lines of the verifier's.
        cause: String,
        /// What to do about it.
        hint: String,
    },
    /// Pinned maps of another version.
    #[error(
        "{path}: the datapath there has maps of ABI version {found}, and this weir has version {ABI_VERSION}; run the \
         weir that it belongs to, or take it off with: weir --instance {instance} detach (breaks its connections)"
    )]
    Abi {
        /// The instance.
        instance: String,
        /// Where it is pinned.
        path: PathBuf,
        /// The version that was found.
        found: u32,
    },
    /// A file below the pin directory could not be made, moved or removed.
    #[error("{path}: {cause}")]
    Pin {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        cause: String,
    },
    /// The maps could not be used.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// Where an instance's BPF state is pinned.
#[derive(Clone, Debug)]
pub struct Pins {
    instance: String,
    root: PathBuf,
}

impl Pins {
    /// Those of `instance`.
    pub fn of(instance: &str) -> Self {
        Self { instance: instance.to_owned(), root: Path::new(names::PIN_ROOT).join(instance) }
    }

    fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The BPF file system takes no dots in names, and interfaces have no colons in theirs.
    fn link(&self, interface: &str) -> PathBuf {
        self.links().join(interface.replace('.', ":"))
    }

    fn programs(&self) -> PathBuf {
        self.root.join("progs")
    }

    /// Whether anything is pinned.
    pub fn exist(&self) -> bool {
        self.root.exists()
    }

    /// Names of the interfaces that have a pinned link.
    pub fn linked(&self) -> Result<Vec<String>, LoadError> {
        let entries = match fs::read_dir(self.links()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(pin_error(&self.links())(error)),
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.map(|name| name.replace(':', ".")).collect())
    }

    fn create(&self) -> Result<(), LoadError> {
        for directory in [self.root.join("maps"), self.links(), self.programs()] {
            fs::create_dir_all(&directory).map_err(|error| LoadError::Refused {
                what: format!("making {}", directory.display()),
                cause: error.to_string(),
                hint: "weir run needs root, and a BPF file system: mount -t bpf bpf /sys/fs/bpf".into(),
            })?;
        }
        // Whoever can open a pin can write the map: kernels from 6.1 on ask for nothing else.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(names::PIN_ROOT, mode).map_err(pin_error(Path::new(names::PIN_ROOT)))
    }

    /// Takes the datapath off all interfaces and forgets its maps. Says whether there was anything.
    pub fn remove(&self) -> Result<bool, LoadError> {
        if !self.exist() {
            return Ok(false);
        }
        // Links first: what is not attached needs no maps.
        let first = fs::remove_dir_all(self.links());
        if let Err(error) = first
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(pin_error(&self.links())(error));
        }
        fs::remove_dir_all(&self.root).map_err(pin_error(&self.root))?;
        // Other instances may be in it still.
        let _gone_when_empty = fs::remove_dir(names::PIN_ROOT);
        Ok(true)
    }

    /// Sessions that the pinned maps hold, when there are any and they are of our version.
    pub fn capacity(&self) -> Result<Option<u32>, LoadError> {
        let path = self.map(names::SETTINGS);
        if !path.exists() {
            return Ok(None);
        }
        let open = |name: &str| MapData::from_pin(self.map(name)).map_err(|error| pin_error(&self.map(name))(error));
        let settings = open(names::SETTINGS)?;
        let is_ours = settings.info().is_ok_and(|info| info.value_size() as usize == size_of::<Settings>());
        let found = if is_ours {
            let settings = aya::maps::Array::<_, Settings>::try_from(aya::maps::Map::Array(settings));
            settings.and_then(|settings| settings.get(&0, 0)).map_err(pin_error(&path))?.abi_version
        } else {
            u32::MAX
        };
        // 0: made, and never written.
        if found != ABI_VERSION && found != 0 {
            return Err(LoadError::Abi { instance: self.instance.clone(), path: self.root.clone(), found });
        }
        let flows = open(names::FLOWS)?.info().map_err(pin_error(&self.map(names::FLOWS)))?;
        Ok(Some(flows.max_entries().saturating_mul(u32::try_from(INDEX_WAYS).unwrap_or(1))))
    }
}

fn pin_error<E: std::error::Error>(path: &Path) -> impl Fn(E) -> LoadError {
    let path = path.to_owned();
    move |error| LoadError::Pin { path: path.clone(), cause: diagnose::chain(&error) }
}

impl BpfDatapath {
    /// Loads the programs on the instance's pinned maps, which are made if need be with room for `sessions`. Attaches
    /// nothing.
    pub fn load(pins: &Pins, sessions: u32) -> Result<Self, LoadError> {
        check_kernel()?;
        pins.create()?;
        let sessions = pins.capacity()?.unwrap_or(sessions);
        let mut loader = EbpfLoader::new();
        for name in names::PINNED {
            loader.map_pin_path(name, pins.map(name));
        }
        let mut object = load_with(loader, sessions)?;
        #[cfg(feature = "trace")]
        super::trace::start(&mut object);
        let id = xdp(&mut object)?.info().map_err(program_error("reading the program's id"))?.id();
        let array = pins.programs().join(id.to_string());
        let programs = object.take_map(names::PROGRAMS).ok_or_else(|| no_map(names::PROGRAMS))?;
        programs.pin(&array).map_err(pin_error(&array))?;
        Ok(Self::new(object)?)
    }

    /// Loads the programs with maps of their own, for tests: nothing is pinned or attached, clock and dice are set.
    pub fn load_for_tests(sessions: u32) -> Result<Self, LoadError> {
        let mut loader = EbpfLoader::new();
        loader.override_global(names::GLOBAL_TEST_MODE, &1u32, true);
        let mut object = load_with(loader, sessions)?;
        let programs = object.take_map(names::PROGRAMS).ok_or_else(|| no_map(names::PROGRAMS))?;
        let mut datapath = Self::new(object)?;
        datapath.program_array = Some(programs);
        Ok(datapath)
    }

    /// Puts the program on an interface, or in place of the one that an earlier agent left there. Returns once packets
    /// go through it.
    pub fn attach(&mut self, pins: &Pins, interface: &Link, mode: AttachMode) -> Result<(), LoadError> {
        let (name, ifindex) = (interface.name.as_str(), interface.ifindex);
        let path = pins.link(name);
        if let Some(link) = adoptable(&path, interface)? {
            let link = XdpLink::try_from(link).map_err(link_error(&path))?;
            let id = xdp(&mut self.programs)?.attach_to_link(link).map_err(program_error("replacing the program"))?;
            // Only the pin keeps it: an agent that ends must not take it off.
            drop(xdp(&mut self.programs)?.take_link(id));
            return Ok(());
        }
        let id = match mode {
            AttachMode::Native => self.attach_in(name, ifindex, XdpMode::Driver)?,
            AttachMode::Generic => self.attach_in(name, ifindex, XdpMode::Skb)?,
            AttachMode::Auto => match self.attach_in(name, ifindex, XdpMode::Driver) {
                Ok(id) => id,
                Err(native) => match self.attach_in(name, ifindex, XdpMode::Skb) {
                    Ok(id) => {
                        tracing::warn!(
                            interface = name,
                            %native,
                            "the driver does not take the program: attached in GENERIC mode, which is slow; every packet goes \
                             through the host's stack first"
                        );
                        id
                    }
                    Err(_) => return Err(native),
                },
            },
        };
        let link = xdp(&mut self.programs)?.take_link(id).map_err(program_error("keeping the link"))?;
        let link = FdLink::try_from(link).map_err(|_| LoadError::Refused {
            what: format!("interface \"{name}\": attaching"),
            cause: "the kernel made no BPF link".into(),
            hint: "links for XDP need Linux 5.9; weir supports 6.1 and newer".into(),
        })?;
        drop(link.pin(&path).map_err(pin_error(&path))?);
        Ok(())
    }

    fn attach_in(
        &mut self,
        name: &str,
        ifindex: u32,
        mode: XdpMode,
    ) -> Result<aya::programs::xdp::XdpLinkId, LoadError> {
        let attached = xdp(&mut self.programs)?.attach_to_if_index(ifindex, mode);
        attached.map_err(|error| diagnose::attach(name, ifindex, mode, &error))
    }

    /// Makes this the program that is pinned, and lets go of those before it and of interfaces not in `interfaces`.
    pub fn settle(&mut self, pins: &Pins, interfaces: &[&str]) -> Result<(), LoadError> {
        for name in pins.linked()? {
            if !interfaces.contains(&name.as_str()) {
                tracing::info!(interface = name, "not in the config any more: taking the program off");
                let path = pins.link(&name);
                fs::remove_file(&path).map_err(pin_error(&path))?;
            }
        }
        let (fresh, path) = (pins.root.join("prog-new"), pins.root.join("prog"));
        let _left_by_a_crash = fs::remove_file(&fresh);
        let program = xdp(&mut self.programs)?;
        let id = program.info().map_err(program_error("reading the program's id"))?.id().to_string();
        program.pin(&fresh).map_err(pin_error(&fresh))?;
        fs::rename(&fresh, &path).map_err(pin_error(&path))?;
        for entry in fs::read_dir(pins.programs()).map_err(pin_error(&pins.programs()))?.flatten() {
            if entry.file_name().to_str() != Some(&id) {
                fs::remove_file(entry.path()).map_err(pin_error(&entry.path()))?;
            }
        }
        Ok(())
    }
}

/// Refuses kernels that lack what the programs use: atomic operations with results came with 5.12, and the next one that
/// is kept alive is 5.15.
fn check_kernel() -> Result<(), LoadError> {
    let current = KernelVersion::current().map_err(|error| refused("asking for the kernel's version", &error))?;
    if current < KernelVersion::new(5, 15, 0) {
        return Err(LoadError::Refused {
            what: "looking at the kernel".into(),
            cause: format!("it is {current:?}, and the programs use what came later"),
            hint: "run Linux 6.1 or newer".into(),
        });
    }
    if current < KernelVersion::new(6, 1, 0) {
        tracing::warn!(?current, "kernels before 6.1 are not supported: what works, works");
    }
    Ok(())
}

/// Loads the program that passes everything and pins it at `path`, to be put on an interface from there: the far end of a
/// veth pair needs one, or frames sent back to it wait until other traffic comes along.
pub fn pin_pass_program(path: &Path) -> Result<(), LoadError> {
    let mut object = load_with(EbpfLoader::new(), SESSIONS_MIN)?;
    let pass = program(&mut object, names::PASS_PROGRAM)?;
    pass.load().map_err(|error| diagnose::verify(names::PASS_PROGRAM, &error))?;
    pass.pin(path).map_err(pin_error(path))
}

/// The pinned link, if it is the one that is on the interface; one that is not is removed. A program on the interface
/// that is nobody's link of ours is somebody else's, and stays.
fn adoptable(path: &Path, interface: &Link) -> Result<Option<FdLink>, LoadError> {
    let attached = interface.xdp.map(|attachment| attachment.program_id);
    if path.exists() {
        let link = FdLink::from(PinnedLink::from_pin(path).map_err(link_error(path))?);
        if Some(link.info().map_err(link_error(path))?.program_id()) == attached {
            return Ok(Some(link));
        }
        tracing::warn!(path = %path.display(), "the interface that this link was made for is gone: attaching anew");
        fs::remove_file(path).map_err(pin_error(path))?;
    }
    match attached {
        None => Ok(None),
        Some(id) => Err(diagnose::foreign(&interface.name, id)),
    }
}

/// Loads all programs and fills the program array.
fn load_with(mut loader: EbpfLoader<'_>, sessions: u32) -> Result<Ebpf, LoadError> {
    let buckets = sessions / u32::try_from(INDEX_WAYS).unwrap_or(1);
    loader
        .map_max_entries(names::FLOWS, buckets)
        .map_max_entries(names::RETURNS, buckets)
        .map_max_entries(names::SESSIONS, sessions);
    let mut object = loader.load(OBJECT).map_err(|error: EbpfError| diagnose::load(&error))?;
    for name in [names::PROGRAM, names::PROGRAM_OPEN, names::CLOCK_PROGRAM] {
        let program: &mut Xdp =
            (object.program_mut(name)).and_then(|program| program.try_into().ok()).ok_or_else(|| no_map(name))?;
        program.load().map_err(|error| diagnose::verify(name, &error))?;
    }
    let open = program(&mut object, names::PROGRAM_OPEN)?.fd().and_then(|fd| Ok(fd.try_clone()?));
    let open = open.map_err(program_error("sharing a program"))?;
    let array = object.map_mut(names::PROGRAMS).ok_or_else(|| no_map(names::PROGRAMS))?;
    let filled = ProgramArray::try_from(array).and_then(|mut array| array.set(names::PROGRAM_OPEN_INDEX, &open, 0));
    filled.map_err(|error| refused("filling the program array", &error))?;
    Ok(object)
}

fn xdp(object: &mut Ebpf) -> Result<&mut Xdp, LoadError> {
    program(object, names::PROGRAM)
}

fn program<'e>(object: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp, LoadError> {
    let program = object.program_mut(name).and_then(|program| program.try_into().ok());
    program.ok_or_else(|| no_map(name))
}

fn no_map(name: &str) -> LoadError {
    refused("reading the embedded object", &format!("it has no {name}"))
}

fn refused(what: &str, cause: &impl ToString) -> LoadError {
    LoadError::Refused {
        what: what.to_owned(),
        cause: cause.to_string(),
        hint: "this should not happen: please report it with the kernel's version (uname -r)".into(),
    }
}

fn program_error(what: &'static str) -> impl Fn(ProgramError) -> LoadError {
    move |error| refused(what, &error)
}

fn link_error(path: &Path) -> impl Fn(LinkError) -> LoadError {
    pin_error(path)
}
