//! Which TLS cipher suite two proxies chose, read from the ServerHello on the wire.

use std::time::Duration;

use tacit_sys::packet::PacketSocket;

/// The port that every contender's server proxy listens on.
pub(crate) const SERVER_PORT: u16 = 15008;
/// Most frames that are looked at: handshakes are at the beginning.
const FRAMES: usize = 10_000;
/// No frame is longer: segmentation is left to the (virtual) card.
const FRAME: usize = 1 << 16;

/// The suite of the first handshake that was captured, if there was one.
pub(crate) fn read(wire: &PacketSocket) -> Result<Option<u16>, String> {
    let mut buffer = vec![0; FRAME];
    for _ in 0..FRAMES {
        let received = wire
            .receive(&mut buffer, Duration::ZERO)
            .map_err(|e| e.to_string())?;
        let Some(length) = received else { break };
        if let Some(suite) = server_hello(&buffer[..length]) {
            return Ok(Some(suite));
        }
    }
    Ok(None)
}

/// The suite of an Ethernet frame that begins a ServerHello over IPv4.
fn server_hello(frame: &[u8]) -> Option<u16> {
    let two =
        |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if two(frame, 12)? != 0x0800 {
        return None;
    }
    let packet = frame.get(14..)?;
    let tcp = packet.get(usize::from(packet.first()? & 0x0f) * 4..)?;
    if *packet.get(9)? != 6 || two(tcp, 0)? != SERVER_PORT {
        return None;
    }
    let record = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
    // Record: type 22, version, length. Message: type 2, length (3), version (2), random (32),
    // session id with its length, suite.
    if *record.first()? != 22 || *record.get(5)? != 2 {
        return None;
    }
    let session = usize::from(*record.get(43)?);
    two(record, 44 + session)
}

/// The name of a suite.
pub(crate) fn name(suite: Option<u16>) -> String {
    match suite {
        None => "no TLS seen".to_owned(),
        Some(0x1301) => "TLS_AES_128_GCM_SHA256".to_owned(),
        Some(0x1302) => "TLS_AES_256_GCM_SHA384".to_owned(),
        Some(0x1303) => "TLS_CHACHA20_POLY1305_SHA256".to_owned(),
        Some(other) => format!("suite {other:#06x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a ServerHello and a session id of 4 bytes.
    fn frame(port: u16, message: u8) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        let mut ip = [0; 20];
        (ip[0], ip[9]) = (0x45, 6);
        frame.extend(ip);
        let mut tcp = [0; 32];
        tcp[..2].copy_from_slice(&port.to_be_bytes());
        tcp[12] = 8 << 4;
        frame.extend(tcp);
        frame.extend([22, 3, 3, 0, 90, message, 0, 0, 86, 3, 3]);
        frame.extend([7; 32]);
        frame.extend([4, 1, 2, 3, 4, 0x13, 0x02, 0]);
        frame
    }

    #[test]
    fn finds_the_suite_of_a_server_hello_only() {
        let hello = frame(SERVER_PORT, 2);
        assert_eq!(server_hello(&hello), Some(0x1302));
        assert_eq!(server_hello(&frame(443, 2)), None);
        assert_eq!(server_hello(&frame(SERVER_PORT, 1)), None);
        for cut in 0..hello.len() - 1 {
            assert_eq!(server_hello(&hello[..cut]), None, "{cut}");
        }
    }
}
