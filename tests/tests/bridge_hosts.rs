//! Which of the bridge hosts does an action.

use ferrostore_tests::{Answer, Bridges, Call, Cloud, Oned, Rule};
use std::time::{Duration, Instant};

/// Makes a small image with this image id; the number of the host that has it then.
fn made_on(bridges: &Bridges, call: Call, id: &str, oned: Option<&Oned>) -> usize {
    let mut call = call.set_escaped("IMAGE/ID", id);
    if let Some(oned) = oned {
        call = oned.known_to(call);
    }
    let reply = call.run().succeeds();
    let name = reply.new_name(reply.line());
    let number = (1..=3).find(|&n| bridges.host(n).datastore().join(&name).exists());
    number.expect("a host has the image")
}

fn mkfs<'c>(cloud: &'c Cloud, bridges: &Bridges) -> Call<'c> {
    bridges.bridged(cloud.mkfs("raw", "1"))
}

#[test]
fn the_image_id_chooses_the_host_and_oned_may_rule_hosts_out() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 3);
    for (id, number) in [("0", 1), ("1", 2), ("2", 3), ("7", 2)] {
        assert_eq!(made_on(&bridges, mkfs(&cloud, &bridges), id, None), number, "image {id}");
    }
    for state in [3, 4, 5, 7, 8] {
        let oned = Oned::listing(&[("host1", 2), ("host2", state), ("host3", 1), ("other", 8)]);
        for (id, number) in [("0", 1), ("1", 3), ("2", 1)] {
            let made = made_on(&bridges, mkfs(&cloud, &bridges), id, Some(&oned));
            assert_eq!(made, number, "image {id}, host2 in state {state}");
        }
        assert_eq!(oned.requests().len(), 3, "asked once for each action");
    }
    for state in [0, 1, 2, 6] {
        let oned = Oned::listing(&[("host2", state)]);
        assert_eq!(made_on(&bridges, mkfs(&cloud, &bridges), "1", Some(&oned)), 2);
    }
    let list = "root@host3 host1";
    let call = mkfs(&cloud, &bridges).set("DATASTORE/TEMPLATE/BRIDGE_LIST", list);
    assert_eq!(made_on(&bridges, call.clone(), "0", None), 3, "with a user in front");
    let oned = Oned::listing(&[("host3", 8), ("host1", 2)]);
    assert_eq!(made_on(&bridges, call, "0", Some(&oned)), 1);
}

#[test]
fn hosts_that_oned_rules_out_are_named_where_none_is_left() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 3);
    let oned = Oned::listing(&[("host1", 3), ("host2", 4), ("host3", 8)]);
    let before = bridges.host(1).connections();
    let call = oned.known_to(mkfs(&cloud, &bridges));
    let failure = call.run().fails().naming("DATASTORE/TEMPLATE/BRIDGE_LIST");
    let failure = failure.saying("host1: oned lists it as in error");
    failure.saying("host2: oned lists it as disabled").saying("host3: oned lists it as off");
    assert_eq!(bridges.host(1).connections(), before, "no host was asked");
}

#[test]
fn without_an_answer_of_oned_every_host_counts() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    for (answer, word) in [
        (Answer::Refusal, "authenticated"),
        (Answer::Silence, "within a second"),
        (Answer::Trickle, "within a second"),
        (Answer::Nonsense, "answered"),
    ] {
        let oned = Oned::answering(answer);
        let call = oned.known_to(bridges.bridged(cloud.monitor()));
        let start = Instant::now();
        let reply = call.run().succeeds();
        println!("{:?}", start.elapsed());
        let warnings = reply.outcome.log_lines();
        let told = |line: &String| line.starts_with("WARN: ") && line.contains(word);
        assert!(warnings.iter().any(told), "{warnings:?}");
        assert!(!warnings.concat().contains("secret"), "{warnings:?}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    for (name, value) in [
        ("ONE_XMLRPC", "http://127.0.0.1:1/RPC2"),
        ("ONE_XMLRPC", "https://127.0.0.1:1/RPC2"),
        ("ONE_AUTH", "/no/such/file"),
    ] {
        let oned = Oned::listing(&[("host1", 8)]);
        let call = oned.known_to(bridges.bridged(cloud.monitor()));
        let reply = call.environment(name, value).run().succeeds();
        assert!(reply.outcome.stderr_text().contains("WARN: "), "{name}={value}");
    }
}

#[test]
fn a_host_that_cannot_be_reached_is_passed_over() {
    let cloud = Cloud::new();
    let mut bridges = Bridges::of(&cloud, 3);
    bridges.host_mut(2).stop();
    let call = mkfs(&cloud, &bridges).set_escaped("IMAGE/ID", "1");
    let reply = call.run().succeeds();
    let name = reply.new_name(reply.line());
    assert!(bridges.host(3).datastore().join(name).exists(), "the next one took over");
    let warnings = reply.outcome.log_lines();
    let told = |line: &String| {
        line.starts_with("WARN: host host2 ") && line.contains("Connection refused")
    };
    assert_eq!(warnings.iter().filter(|line| told(line)).count(), 1, "{warnings:?}");
    bridges.host_mut(1).stop();
    bridges.host_mut(3).stop();
    let failure = mkfs(&cloud, &bridges).run().fails().naming("DATASTORE/TEMPLATE/BRIDGE_LIST");
    let failure = failure.saying("host1: ").saying("host2: ").saying("host3: ");
    assert_eq!(failure.text.matches("Connection refused").count(), 3, "{}", failure.text);
}

#[test]
fn a_host_whose_key_has_changed_or_that_refuses_the_login_is_passed_over() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 2);
    let known = bridges.home().join(".ssh/known_hosts");
    let text = std::fs::read_to_string(&known).unwrap();
    let other = text.lines().nth(1).unwrap().split_once(' ').unwrap().1;
    let first = text.lines().next().unwrap().split_once(' ').unwrap().0;
    let rest = text.lines().nth(1).unwrap();
    std::fs::write(&known, format!("{first} {other}\n{rest}\n")).unwrap();
    let call = bridges.bridged(cloud.mkfs("raw", "1")).set_escaped("IMAGE/ID", "0");
    let reply = call.run().succeeds();
    assert!(bridges.host(2).datastore().join(reply.new_name(reply.line())).exists());
    let warnings = reply.outcome.log_lines();
    assert!(warnings.iter().any(|line| line.starts_with("WARN: host host1 ")), "{warnings:?}");
    let call = bridges.bridged(cloud.monitor());
    let call = call.set("DATASTORE/TEMPLATE/BRIDGE_LIST", "unknown@host2");
    call.run().fails().naming("BRIDGE_LIST").saying("unknown@host2: ").saying("Permission denied");
}

#[test]
fn no_name_of_a_host_is_an_option_or_a_command() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let trace = cloud.root().join("ran");
    let proxy = format!("-oProxyCommand=touch${{IFS}}{}", trace.display());
    for name in [&proxy, "-v", "root@-v", "$(id)", "`id`", "a;id", "a|id", "host1'", "a/b", "@"] {
        for list in [name.to_owned(), format!("host1 {name}")] {
            let call = bridges.bridged(cloud.mkfs("raw", "1"));
            let call = call.set("DATASTORE/TEMPLATE/BRIDGE_LIST", &list);
            call.run()
                .refused(Rule::HostName)
                .naming("DATASTORE/TEMPLATE/BRIDGE_LIST")
                .saying(name);
            let call = bridges.reachable(cloud.clone_of(cloud.source(1), "raw"));
            let call = call.set("SOURCE_BRIDGE_LIST", &list);
            call.run().refused(Rule::HostName).naming("SOURCE_BRIDGE_LIST").saying(name);
        }
    }
    assert!(!trace.exists());
    assert_eq!(bridges.host(1).connections(), 1, "but for the test's own");
}

#[test]
fn an_empty_list_means_here() {
    let cloud = Cloud::new();
    for list in ["", " ", " \n "] {
        let call = cloud.mkfs("raw", "1").set("DATASTORE/TEMPLATE/BRIDGE_LIST", list);
        call.run().succeeds().empty_image();
    }
}
