//! Writes a capture file without tcpdump, which cannot start where groups may not be set.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tacit_sys::NetNs;
use tacit_sys::link::LinkName;
use tacit_sys::packet::PacketSocket;

use crate::process::told;

/// The longest frame: 64 KiB of segments that the network card would have to cut, and its header.
const LONGEST: usize = 65_536 + 64;
/// How often the thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// A capture that runs in a thread.
pub(super) struct Own {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Own {
    pub(super) fn start(netns: &NetNs, link: &LinkName, file: &Path) -> io::Result<Self> {
        let socket = PacketSocket::open(netns, link).map_err(told)?;
        let mut out = BufWriter::new(File::create(file)?);
        out.write_all(&header())?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || write_all(&socket, &mut out, &asked))?;
        Ok(Self { stop, thread })
    }

    /// Ends the capture; returns how many frames were lost.
    pub(super) fn finish(self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the capture thread failed")))
    }
}

/// Writes frames until asked to stop and no frame is waiting.
fn write_all(socket: &PacketSocket, out: &mut impl Write, stop: &AtomicBool) -> io::Result<u64> {
    let mut frame = vec![0; LONGEST];
    loop {
        let asked = stop.load(Ordering::Relaxed);
        match socket.receive(&mut frame, LOOK)? {
            Some(length) => record(out, frame.get(..length).unwrap_or(&frame))?,
            None if asked => break,
            None => {}
        }
    }
    out.flush()?;
    Ok(u64::from(socket.statistics()?.lost))
}

/// The header of a pcap file: version 2.4, Ethernet.
fn header() -> Vec<u8> {
    let longest = u32::try_from(LONGEST).unwrap_or(u32::MAX);
    let mut bytes = 0xA1B2_C3D4_u32.to_ne_bytes().to_vec();
    bytes.extend(2_u16.to_ne_bytes());
    bytes.extend(4_u16.to_ne_bytes());
    bytes.extend(
        [0, 0, longest, 1]
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes()),
    );
    bytes
}

fn record(out: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // Seconds of 32 bits, as the format has them.
    let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    for word in [seconds, now.subsec_micros(), length, length] {
        out.write_all(&word.to_ne_bytes())?;
    }
    out.write_all(frame)
}
