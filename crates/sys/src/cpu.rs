//! Processor time, which does not grow while others use the processor.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// What the calling thread has used since it began, in nanoseconds' resolution.
pub fn thread_time() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_work_and_not_with_sleep() {
        let begin = thread_time().expect("a clock");
        let sum: u64 = (0..20_000_000_u64).map(std::hint::black_box).sum();
        let worked = thread_time().expect("a clock");
        std::thread::sleep(Duration::from_millis(50));
        let slept = thread_time().expect("a clock");
        assert!(sum > 0 && worked > begin);
        assert!(slept - worked < Duration::from_millis(25));
    }
}
