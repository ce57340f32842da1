//! What processes cost: the server's, if it runs on this machine, and our own.

use super::connection::Connection;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Processor time, in user and kernel mode.
    pub(super) cpu: Duration,
    /// Memory that it has now.
    pub(super) rss_bytes: u64,
    /// The most memory that it ever had.
    pub(super) rss_peak_bytes: u64,
}

/// The process at the other end of a connection, if it is on this machine and this user may see it.
pub(super) fn peer_pid(connection: &Connection) -> Option<u32> {
    if let Some(stream) = connection.unix_stream() {
        let peer = rustix::net::sockopt::socket_peercred(stream).ok()?;
        return u32::try_from(peer.pid.as_raw_nonzero().get()).ok();
    }
    let (ours, theirs) = connection.tcp_ends()?;
    if ours.ip() != theirs.ip() && !theirs.ip().is_loopback() {
        return None;
    }
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|path| find_inode(&fs::read_to_string(path).ok()?, theirs, ours))?;
    owner_of_socket(&inode)
}

/// Looks in a table of the kernel for the socket at `local` that is connected to `remote`. The two
/// ports are enough to tell it from all others of this machine.
fn find_inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<String> {
    let port_of = |end: &str| u16::from_str_radix(end.rsplit_once(':')?.1, 16).ok();
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (near, far, inode) = (fields.get(1)?, fields.get(2)?, fields.get(9)?);
        let found = port_of(near)? == local.port() && port_of(far)? == remote.port();
        (found && *inode != "0").then(|| (*inode).to_owned())
    })
}

fn owner_of_socket(inode: &str) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let has_it = files.any(|file| {
            fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())
        });
        has_it.then_some(pid)
    })
}

/// What a process of this machine has used, if there is one.
pub(super) fn usage_of(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; 11 fields after it comes the time in user mode.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    let per_second = rustix::param::clock_ticks_per_second();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kibibytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Usage {
        cpu: Duration::from_secs_f64(ticks as f64 / per_second.max(1) as f64),
        rss_bytes: kibibytes("VmRSS:")? << 10,
        rss_peak_bytes: kibibytes("VmHWM:")? << 10,
    })
}

/// The processor time that this program has used.
pub(super) fn own_cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(used).unwrap_or_default()
}
