//! Proof on the wire: captures a link with tcpdump, and looks for text in what was captured.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tacit_sys::NetNs;
use tacit_sys::link::LinkName;
use tacit_sys::spawn::StdioFrom;

use crate::process::{Job, Running, start};
use own::Own;

mod own;

/// How long tcpdump may take to open the link and make its file.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// The port of encrypted traffic between proxies.
const HBONE_PORT: u16 = 15008;

/// A capture that runs.
pub(crate) struct Capture {
    way: Way,
    file: PathBuf,
}

enum Way {
    Tcpdump {
        process: Box<Running>,
        said: PathBuf,
    },
    Own(Own),
}

/// What was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Captured {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Packets from or to the port of encrypted traffic.
    pub(crate) encrypted: u64,
    /// How often the text was found, anywhere in any packet.
    pub(crate) found: u64,
    /// Packets that the kernel lost: must be 0, else nothing is proven.
    pub(crate) lost: u64,
}

impl Capture {
    /// Starts to capture every frame of `link` with tcpdump; returns once it is listening.
    pub(crate) async fn tcpdump(netns: NetNs, link: &LinkName, file: PathBuf) -> io::Result<Self> {
        let said = file.with_extension("txt");
        let errors = fs::File::create(&said)?;
        let job = tcpdump_job(netns, link, &file);
        let mut process = Box::new(start(job, StdioFrom::Descriptor(errors.into()))?);
        let opened = async {
            // The file's header is written once the link is being captured.
            while fs::metadata(&file).map_or(0, |m| m.len()) < 24 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = opened => {}
            _ = process.ended() => return Err(io::Error::other(format!(
                "tcpdump ended: {}",
                fs::read_to_string(&said).unwrap_or_default().trim()
            ))),
            () = tokio::time::sleep(OPEN_PATIENCE) => {
                let text = "tcpdump does not start to capture";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
        Ok(Self {
            way: Way::Tcpdump { process, said },
            file,
        })
    }

    /// The same without tcpdump, which insists on setting groups and so fails without real root.
    pub(crate) fn own(netns: &NetNs, link: &LinkName, file: PathBuf) -> io::Result<Self> {
        Ok(Self {
            way: Way::Own(Own::start(netns, link, &file)?),
            file,
        })
    }

    /// Ends the capture and looks for `text` in it.
    pub(crate) async fn finish(self, text: &str) -> io::Result<Captured> {
        let lost = match self.way {
            Way::Tcpdump { mut process, said } => {
                process.stop().await?;
                lost(&fs::read_to_string(&said)?)?
            }
            Way::Own(own) => own.finish()?,
        };
        let bytes = fs::read(&self.file)?;
        fs::remove_file(&self.file)?;
        search(&bytes, text.as_bytes(), lost)
    }
}

fn tcpdump_job(netns: NetNs, link: &LinkName, file: &Path) -> Job {
    // The whole frame, written at once, a large buffer so that nothing is lost, and no change of
    // user, who could not write the file.
    let words = [
        "-i",
        link.as_str(),
        "-s",
        "0",
        "-U",
        "-n",
        "-B",
        "65536",
        "-Z",
        "root",
        "-w",
    ];
    let mut args: Vec<String> = words.map(str::to_owned).into();
    args.push(file.to_string_lossy().into_owned());
    Job {
        program: "tcpdump".into(),
        args,
        env: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())],
        netns,
        binds: Vec::new(),
    }
}

/// Reads "N packets dropped by kernel" of tcpdump's last words.
fn lost(said: &str) -> io::Result<u64> {
    let line = said.lines().find(|line| line.contains("dropped by kernel"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("tcpdump does not say what it lost: {said}")))
}

/// Looks through a capture file (pcap, this machine's byte order, Ethernet).
fn search(file: &[u8], text: &[u8], lost: u64) -> io::Result<Captured> {
    let bad = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "not a pcap file of this machine",
        )
    };
    let number = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(file.get(at..at + 4)?.try_into().ok()?))
    };
    if !matches!(number(0), Some(0xA1B2_C3D4 | 0xA1B2_3C4D)) {
        return Err(bad());
    }
    let mut captured = Captured {
        packets: 0,
        bytes: 0,
        encrypted: 0,
        found: 0,
        lost,
    };
    // A file header of 24 bytes, then per packet a header of 16 bytes whose third word is a length.
    let mut at = 24;
    while at < file.len() {
        let length = number(at + 8).ok_or_else(bad)? as usize;
        let frame = file.get(at + 16..at + 16 + length).ok_or_else(bad)?;
        captured.packets += 1;
        captured.bytes += length as u64;
        captured.encrypted += u64::from(is_encrypted(frame));
        captured.found += frame
            .windows(text.len())
            .filter(|part| *part == text)
            .count() as u64;
        at += 16 + length;
    }
    Ok(captured)
}

/// True for IPv4 TCP from or to the port of encrypted traffic.
fn is_encrypted(frame: &[u8]) -> bool {
    let Some(packet) = frame.get(14..) else {
        return false;
    };
    let (Some(first), Some(protocol)) = (packet.first(), packet.get(9)) else {
        return false;
    };
    if frame.get(12..14) != Some(&[8, 0]) || *protocol != 6 {
        return false;
    }
    let header = usize::from(first & 0x0F) * 4;
    let port = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    [port(header), port(header + 2)].contains(&Some(HBONE_PORT))
}

#[cfg(test)]
mod tests {
    use super::{lost, search};

    fn file(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = 0xA1B2_C3D4_u32.to_ne_bytes().to_vec();
        bytes.resize(24, 0);
        for frame in frames {
            let length = u32::try_from(frame.len()).unwrap();
            for word in [0, 0, length, length] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(*frame);
        }
        bytes
    }

    fn tcp(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45]);
        frame.resize(14 + 9, 0);
        frame.push(6);
        frame.resize(14 + 20, 0);
        frame.extend(1234_u16.to_be_bytes());
        frame.extend(port.to_be_bytes());
        frame.extend(payload);
        frame
    }

    #[test]
    fn finds_text_and_encrypted_packets() {
        let frames = [
            tcp(80, b"..secret..secret"),
            tcp(15008, b"nothing"),
            vec![1, 2],
        ];
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let captured = search(&file(&frames), b"secret", 0).unwrap();
        assert_eq!(
            (captured.packets, captured.encrypted, captured.found),
            (3, 1, 2)
        );
        assert_eq!(search(&file(&[]), b"secret", 0).unwrap().found, 0);
        search(b"not a capture", b"x", 0).unwrap_err();
        let mut cut = file(&frames);
        cut.pop();
        search(&cut, b"x", 0).unwrap_err();
    }

    #[test]
    fn last_words() {
        let said =
            "12 packets captured\n14 packets received by filter\n3 packets dropped by kernel\n";
        assert_eq!(lost(said).unwrap(), 3);
        lost("tcpdump: no such device\n").unwrap_err();
    }
}
