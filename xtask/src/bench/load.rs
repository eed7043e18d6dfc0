//! What asks: wrk and iperf3, and what they say came of it.

use std::time::Duration;

use serde_json::Value;

/// Keep-alive connections of wrk.
pub(crate) const CONNECTIONS: u32 = 32;

/// What a load came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Done {
    /// Bytes or requests.
    pub(crate) amount: f64,
    pub(crate) latency: Option<Latency>,
}

/// How long requests took, as wrk saw it at full load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

pub(crate) fn wrk(url: &str, seconds: u32) -> Vec<String> {
    let (connections, duration) = (format!("-c{CONNECTIONS}"), format!("-d{seconds}s"));
    ["wrk", "-t1", &connections, &duration, "--latency", url]
        .map(str::to_owned)
        .into()
}

/// One stream, from the client to the server.
pub(crate) fn iperf3(host: &str, port: u16, seconds: u32) -> Vec<String> {
    let (port, seconds) = (port.to_string(), seconds.to_string());
    [
        "iperf3", "--json", "--client", host, "--port", &port, "--time", &seconds,
    ]
    .map(str::to_owned)
    .into()
}

/// Reads what wrk printed. A request that failed makes the whole load worthless.
pub(crate) fn read_wrk(text: &str) -> Result<Done, String> {
    let wrong = |what: &str| format!("wrk: {what}:\n{text}");
    if let Some(line) = text
        .lines()
        .find(|line| line.contains("Socket errors") || line.contains("Non-2xx"))
    {
        return Err(format!("wrk: {}", line.trim()));
    }
    let count = text
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "));
    let amount: f64 = count
        .and_then(|(count, _)| count.parse().ok())
        .filter(|count| *count > 0.0)
        .ok_or_else(|| wrong("no requests"))?;
    let percentile = |name: &str| {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix(name))
            .find_map(|rest| duration(rest.trim()))
            .ok_or_else(|| wrong("no latency"))
    };
    let latency = Latency {
        p50: percentile("50%")?,
        p99: percentile("99%")?,
    };
    Ok(Done {
        amount,
        latency: Some(latency),
    })
}

/// `1.23ms`, as wrk writes it.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

/// Reads the report of iperf3.
pub(crate) fn read_iperf3(text: &str) -> Result<Done, String> {
    let report: Value = serde_json::from_str(text).map_err(|e| format!("iperf3: {e}: {text}"))?;
    if let Some(error) = report["error"].as_str() {
        return Err(format!("iperf3: {error}"));
    }
    let amount = report["end"]["sum_received"]["bytes"]
        .as_f64()
        .filter(|bytes| *bytes > 0.0)
        .ok_or_else(|| format!("iperf3: nothing was received: {text}"))?;
    Ok(Done {
        amount,
        latency: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 2s test @ http://10.98.0.1/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   820.31us  212.20us   6.47ms   88.27%
  Latency Distribution
     50%  784.00us
     75%    0.91ms
     99%    1.58ms
  77563 requests in 2.00s, 12.57MB read
Requests/sec:  38712.33
";

    #[test]
    fn reads_what_wrk_prints() {
        let done = read_wrk(WRK).unwrap();
        let latency = done.latency.unwrap();
        assert_eq!(done.amount, 77563.0);
        assert_eq!(latency.p50, Duration::from_micros(784));
        assert_eq!(latency.p99, Duration::from_micros(1580));
    }

    #[test]
    fn a_failed_request_makes_a_load_worthless() {
        for line in [
            "  Non-2xx or 3xx responses: 5\n",
            "  Socket errors: connect 0, read 1\n",
        ] {
            assert!(read_wrk(&format!("{WRK}{line}")).is_err());
        }
        assert!(read_wrk("  0 requests in 2.00s, 0.00B read\n").is_err());
    }

    #[test]
    fn reads_what_iperf3_prints() {
        let done = read_iperf3(r#"{"end":{"sum_received":{"bytes":12345}}}"#).unwrap();
        assert_eq!(done.amount, 12345.0);
        assert!(read_iperf3(r#"{"error":"unable to connect"}"#).is_err());
        assert!(read_iperf3(r#"{"end":{"sum_received":{"bytes":0}}}"#).is_err());
    }
}
