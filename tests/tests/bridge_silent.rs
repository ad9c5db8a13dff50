//! Connections that stand and say nothing. Each takes over a minute, for that is how long they are given.

use ferrostore_tests::{Bridges, Cloud, MIB, Page, Web, run};
use std::io::Write;
use std::process::{Child, Output};
use std::thread;
use std::time::{Duration, Instant};

/// The registration of an image that comes slowly, once the host has begun to write it.
struct Underway {
    driver: Child,
    start: Instant,
}

impl Underway {
    fn begin(cloud: &Cloud, bridges: &Bridges, web: &Web) -> Self {
        let disk = cloud.raw("disk.img", 16 * MIB);
        let url = web.page("slow.img", Page::of(&disk).at_rate(64 << 10));
        let (mut driver, input) = bridges.bridged(cloud.cp(url)).start();
        driver.stdin.take().unwrap().write_all(&input.unwrap()).unwrap();
        let host = bridges.host(1);
        while !host.listing().names().iter().any(|name| name.contains("/staging.")) {
            assert!(driver.try_wait().unwrap().is_none(), "the driver has ended");
            thread::sleep(Duration::from_millis(20));
        }
        Self { driver, start: Instant::now() }
    }

    fn end(self) -> (Output, Duration) {
        let output = self.driver.wait_with_output().unwrap();
        (output, self.start.elapsed())
    }
}

fn signal(name: &str, process: u32) {
    run("kill", ["-s", name, &process.to_string()]);
}

#[test]
fn a_host_that_falls_silent_is_given_up_after_a_minute() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let bridges = Bridges::of(&cloud, 1);
    let host = bridges.host(1);
    let underway = Underway::begin(&cloud, &bridges, &web);
    let mut servers = host.processes("sshd");
    servers.retain(|&server| Some(server) != host.listener());
    for &server in &servers {
        signal("STOP", server);
    }
    let (output, took) = underway.end();
    for &server in &servers {
        signal("CONT", server);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let told = said.lines().filter(|line| line.starts_with("cp: host1: Timeout"));
    assert_eq!(told.count(), 1, "{said}");
    assert!((55..100).contains(&took.as_secs()), "it took {took:?}");
    // What was sent to the host meanwhile, it reads when it wakes up.
    let start = Instant::now();
    while !host.listing().names().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", host.listing().names());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_front_end_that_falls_silent_is_given_up_after_a_minute() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let bridges = Bridges::of(&cloud, 1);
    let host = bridges.host(1);
    let underway = Underway::begin(&cloud, &bridges, &web);
    // Its ssh goes on answering.
    signal("STOP", underway.driver.id());
    while !host.processes("cp").is_empty() {
        assert!(underway.start.elapsed() < Duration::from_secs(100), "the driver there waits");
        thread::sleep(Duration::from_millis(50));
    }
    let took = underway.start.elapsed();
    assert!(took.as_secs() >= 55, "it took {took:?}");
    assert_eq!(host.listing().names(), [""; 0], "the old state");
    signal("CONT", underway.driver.id());
    let (output, _) = underway.end();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
