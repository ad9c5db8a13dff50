//! `stat` of images on a web server: few requests, bounded time.

use ferrostore_tests::{Cloud, Fault, MIB, Page, Rule, Web, pattern, run, same_content};
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// More than this would be felt by the user, whose call waits.
const MOST_REQUESTS: usize = 4;

fn output_of(cloud: &Cloud, name: &str, program: &str, arguments: &[&str]) -> PathBuf {
    cloud.file(name, run(program, arguments).stdout)
}

fn joined(cloud: &Cloud, name: &str, parts: &[PathBuf]) -> PathBuf {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| fs::read(part).unwrap()).collect();
    cloud.file(name, bytes)
}

/// What the server sent in all must be far from the whole file.
fn measured_sparingly(web: &Web, file: &PathBuf) {
    let requests = web.requests();
    let ranges: Vec<_> = requests.iter().filter_map(|request| request.header("range")).collect();
    assert!(requests.len() <= MOST_REQUESTS, "{} requests: {ranges:?}", requests.len());
    let sent: u64 = requests.iter().map(|request| request.sent).sum();
    let length = fs::metadata(file).unwrap().len();
    assert!(sent < 2 * MIB || sent <= length + 8 * MIB, "{sent} bytes of {length}");
}

#[test]
fn an_image_is_measured_by_a_few_small_requests() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 9 * MIB + 1);
    let files = [
        (disk.clone(), "10"),
        (cloud.qcow2(&disk, "v3.qcow2", ""), "10"),
        (cloud.qcow2(&disk, "v2.qcow2", "compat=0.10"), "10"),
        (cloud.compressed_qcow2(&disk, "packed.qcow2", ""), "10"),
        (cloud.converted(&disk, "disk.vmdk", "vmdk", ""), "10"),
        (cloud.converted(&disk, "stream.vmdk", "vmdk", "subformat=streamOptimized"), "10"),
        (cloud.converted(&disk, "disk.vdi", "vdi", ""), "10"),
        (cloud.converted(&disk, "disk.vhdx", "vhdx", ""), "10"),
        (cloud.luks("disk.luks", 5 * MIB), "5"),
        (cloud.iso("disc.iso"), "1"),
        (cloud.compressed(&disk, "gzip"), "10"),
        (cloud.compressed(&disk, "bzip2"), "10"),
        (cloud.compressed(&disk, "xz"), "10"),
        (cloud.compressed(&disk, "zstd"), "10"),
    ];
    for (file, size) in files {
        println!("{}", file.display());
        cloud.stat(web.serve(&file)).run().succeeds().replies(size);
        measured_sparingly(&web, &file);
    }
}

#[test]
fn a_compressed_qcow2_counts_with_its_virtual_size() {
    let (cloud, web) = (Cloud::new(), Web::new());
    // Larger than what is fetched whole.
    let noise = cloud.file("noise.img", pattern(4, 20 * MIB as usize));
    let qcow2 = cloud.qcow2(&noise, "noise.qcow2", "");
    run("qemu-img", ["resize", "-q", "-f", "qcow2", qcow2.to_str().unwrap(), "70G"]);
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = cloud.compressed(&qcow2, program);
        println!("{program}");
        cloud.stat(web.serve(&packed)).run().succeeds().replies("71680");
        measured_sparingly(&web, &packed);
    }
}

#[test]
fn a_large_file_is_measured_by_its_length() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let large = cloud.images().join("large.img");
    File::create(&large).unwrap().set_len((200 << 30) + 1).unwrap();
    for page in [Page::of(&large), Page::of(&large).without_ranges()] {
        let start = Instant::now();
        cloud.stat(web.page("large.img", page)).run().succeeds().replies("204801");
        assert!(start.elapsed() < Duration::from_secs(20));
        measured_sparingly(&web, &large);
    }
}

#[test]
fn xz_files_of_many_blocks_and_streams_are_measured_by_their_indexes() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let noise = cloud.file("noise.img", pattern(4, 12 * MIB as usize));
    let name = noise.to_str().unwrap();
    let blocks = output_of(&cloud, "blocks.xz", "xz", &["-1", "-c", "--block-size=20000", name]);
    let one = cloud.compressed(&noise, "xz");
    let two = joined(&cloud, "two.xz", &[blocks.clone(), one.clone()]);
    let padded = {
        let padding = cloud.file("padding", [0; 64]);
        joined(&cloud, "padded.xz", &[one.clone(), padding.clone(), one.clone(), padding])
    };
    for (file, size) in [(one, "12"), (blocks, "12"), (two, "24"), (padded, "24")] {
        println!("{}", file.display());
        cloud.stat(web.serve(&file)).run().succeeds().replies(size);
        measured_sparingly(&web, &file);
    }
}

#[test]
fn a_small_file_in_several_parts_is_measured_whole() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 2 * MIB);
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let part = cloud.compressed(&disk, program);
        let file = joined(&cloud, "parts", &[part.clone(), part.clone(), part]);
        println!("{program}");
        cloud.stat(web.serve(&file)).run().succeeds().replies("6");
        measured_sparingly(&web, &file);
    }
}

#[test]
fn a_large_zstd_file_in_several_frames_is_never_measured_by_the_first() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let noise = cloud.file("noise.img", pattern(4, 10 * MIB as usize));
    let text = cloud.file("text.img", b"some text ".repeat(5 << 20));
    for (first, second, size) in [(&noise, &noise, "20"), (&text, &noise, "60")] {
        let frames = [first, second].map(|file| cloud.compressed(file, "zstd"));
        let url = web.serve(joined(&cloud, "frames.zst", &frames));
        cloud.stat(&url).run().succeeds().replies(size);
        let call = cloud.cp(&url).driver("qcow2").set_escaped("IMAGE/SIZE", size);
        let copy = call.run().succeeds().image("qcow2");
        same_content(
            joined(&cloud, "both", &[first.clone(), second.clone()]),
            "raw",
            copy,
            "qcow2",
        );
    }
}

/// What a user says counts only where there is no time to find out.
#[test]
fn what_only_a_whole_download_tells_is_downloaded() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let noise = cloud.file("noise.img", pattern(4, 20 * MIB as usize));
    let name = noise.to_str().unwrap();
    let piped = cloud.file("piped.zst", run("sh", ["-c", "exec zstd -1 -c < \"$0\"", name]).stdout);
    for file in [cloud.compressed(&noise, "gzip"), cloud.compressed(&noise, "bzip2"), piped] {
        println!("{}", file.display());
        let url = web.serve(&file);
        cloud.stat(&url).run().succeeds().replies("20");
        cloud.stat(&url).set_escaped("IMAGE/SIZE", "33").run().succeeds().replies("20");
    }
    let packed = cloud.compressed(&noise, "gzip");
    let slow = web.page("slow", Page::of(packed).at_rate(200_000));
    cloud.stat(&slow).set_escaped("IMAGE/SIZE", "33").run().succeeds().replies("33");
}

/// oned asks `stat` for the size of a CDROM image without a SIZE, whatever the user gives.
#[test]
fn a_compressed_disc_is_measured_without_advice_that_cannot_be_followed() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let mut bytes = fs::read(cloud.iso("disc.iso")).unwrap();
    bytes.extend(pattern(6, 12 * MIB as usize));
    let disc = cloud.file("disc.iso", bytes);
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let file = cloud.compressed(&disc, program);
        let url = web.serve(&file);
        cloud.stat(&url).without("IMAGE/SIZE").run().succeeds().replies("13");
        let half = fs::read(&file).unwrap();
        let half = cloud.file("half", &half[..half.len() / 2]);
        let outcome = cloud.stat(web.serve(half)).without("IMAGE/SIZE").run();
        assert!(!outcome.stderr_text().contains("SIZE (MiB)"), "{}", outcome.stderr_text());
        outcome.fails().naming("IMAGE/PATH").saying("cut off");
    }
}

#[test]
fn a_server_that_refuses_every_range_is_asked_for_the_whole_file() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let noise = cloud.file("noise.img", pattern(4, 12 * MIB as usize));
    for (file, size) in [
        (noise.clone(), "12"),
        (cloud.qcow2(&noise, "disk.qcow2", ""), "12"),
        (cloud.converted(&noise, "disk.vhdx", "vhdx", ""), "12"),
        (cloud.compressed(&noise, "gzip"), "12"),
        (cloud.compressed(&noise, "xz"), "12"),
        (cloud.iso("disc.iso"), "1"),
    ] {
        println!("{}", file.display());
        for code in [416, 400, 403, 405, 501] {
            let url = web.page("disk", Page::of(&file).refusing_ranges_with(code));
            cloud.stat(&url).run().succeeds().replies(size);
        }
        cloud.cp(web.page("disk", Page::of(&file).refusing_ranges())).run().succeeds();
    }
    let empty = cloud.file("empty", "");
    for page in [Page::of(&empty), Page::of(&empty).refusing_ranges()] {
        cloud.stat(web.page("empty", page)).run().fails().naming("IMAGE/PATH").saying("empty");
    }
}

#[test]
fn a_size_in_the_message_is_no_match_for_the_truth() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 9 * MIB);
    for file in [cloud.qcow2(&disk, "disk.qcow2", ""), cloud.compressed(&disk, "xz"), disk] {
        let call = cloud.stat(web.serve(&file)).set_escaped("IMAGE/SIZE", "5");
        call.run().succeeds().replies("9");
    }
}

#[test]
fn a_server_without_ranges_still_tells_what_lies_in_front() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let noise = cloud.file("noise.img", pattern(4, 12 * MIB as usize));
    for (file, size) in [
        (noise.clone(), "12"),
        (cloud.qcow2(&noise, "disk.qcow2", ""), "12"),
        (cloud.converted(&noise, "disk.vdi", "vdi", ""), "12"),
        (cloud.compressed(&noise, "zstd"), "12"),
        (cloud.iso("disc.iso"), "1"),
    ] {
        println!("{}", file.display());
        let url = web.page("disk", Page::of(&file).without_ranges());
        cloud.stat(&url).run().succeeds().replies(size);
        measured_sparingly(&web, &file);
    }
    // The index of an xz file lies at its end, so all of it is read.
    let xz = cloud.compressed(&noise, "xz");
    let url = web.page("disk.xz", Page::of(&xz).without_ranges());
    cloud.stat(&url).run().succeeds().replies("12");
}

#[test]
fn a_server_that_tells_no_length_is_handled_or_refused_in_words() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let noise = cloud.file("noise.img", pattern(4, 12 * MIB as usize));
    let qcow2 = cloud.qcow2(&noise, "disk.qcow2", "");
    for page in [Page::without_length, Page::chunked] {
        let whole = |file| page(Page::of(file).without_ranges());
        cloud.stat(web.page("q", whole(&qcow2))).run().succeeds().replies("12");
        // With ranges, Content-Range tells.
        cloud.stat(web.page("r", page(Page::of(&noise)))).run().succeeds().replies("12");
        let packed = ["gzip", "xz"].map(|program| cloud.compressed(&noise, program));
        for file in [&noise, &packed[0], &packed[1]] {
            cloud.stat(web.page("raw", whole(file))).run().succeeds().replies("12");
        }
        let tar = cloud.tar("disk.tar", &[], &[("disk.raw", &noise)]);
        cloud.stat(web.page("tar", whole(&tar))).run().succeeds().replies("12");
        let slow = |file: &PathBuf| page(Page::of(file).without_ranges().at_rate(200_000));
        let url = web.page("slow", slow(&noise));
        let failure = cloud.stat(&url).run().refused(Rule::CantBeMeasured).naming("IMAGE/PATH");
        failure.saying(&url).saying("SIZE");
        cloud.stat(&url).set_escaped("IMAGE/SIZE", "12").run().succeeds().replies("12");
    }
}

/// Little is fetched, much comes out of it.
#[test]
fn a_small_file_that_unpacks_to_much_is_measured_by_all_of_it() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let zeroes = cloud.file("zeroes.img", vec![0; 9 * MIB as usize]);
    let text = cloud.file("text.img", b"0123456789abcdef".repeat(9 * MIB as usize / 16));
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        for disk in [&zeroes, &text] {
            let packed = cloud.compressed(disk, program);
            for page in [Page::of(&packed), Page::of(&packed).without_ranges()] {
                cloud.stat(web.page("packed", page)).run().succeeds().replies("9");
            }
        }
    }
    let noise = cloud.file("noise.img", pattern(5, 5 * MIB as usize));
    cloud.stat(web.serve(cloud.compressed(&noise, "bzip2"))).run().succeeds().replies("5");
}

#[test]
fn refusals_are_told_with_the_url_and_the_status() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    for code in [401, 403, 404, 500, 503] {
        let url = web.page("disk", Page::of(&disk).always(Fault::Status(code)));
        for size in ["", "5"] {
            // A file that isn't there has no size, whatever the user says.
            let call = cloud.stat(&url).set_escaped("IMAGE/SIZE", size);
            call.run()
                .refused(Rule::HttpStatus)
                .naming("IMAGE/PATH")
                .saying(&url)
                .saying(&code.to_string());
        }
    }
    let url = web.page("a", Page::redirect("/a"));
    cloud.stat(&url).run().fails().naming("IMAGE/PATH").saying(&url).saying("redirect");
    let url = web.serve(cloud.file("empty", ""));
    cloud.stat(&url).run().fails().naming("IMAGE/PATH").saying(&url).saying("empty");
    let url = web.page("hang", Page::of(&disk).always(Fault::HangUp));
    cloud.stat(&url).run().refused(Rule::NoResponse).naming("IMAGE/PATH").saying(&url);
}

#[test]
fn a_short_trouble_is_no_reason_to_fail() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    for fault in [Fault::Status(503), Fault::HangUp, Fault::CutAfter(1000)] {
        println!("{fault:?}");
        let url = web.page("disk", Page::of(&disk).first(fault));
        cloud.stat(&url).run().succeeds().replies("1");
    }
}

#[test]
fn hostile_images_are_refused() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let trap = cloud.images().join("trap.qcow2");
    let arguments = ["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd"];
    run("qemu-img", arguments.into_iter().chain([trap.to_str().unwrap(), "10M"]));
    let url = web.serve(trap);
    cloud.stat(&url).run().fails().naming("IMAGE/PATH").saying(&url).saying("backing");
}

/// The call must be over in 20 seconds, each wait included.
#[test]
fn a_server_that_stalls_does_not_hold_the_user_up() {
    let cloud = Cloud::new();
    let noise = cloud.file("noise.img", pattern(4, 12 * MIB as usize));
    let xz = cloud.compressed(&noise, "xz");
    let page = Page::of(&xz);
    let pages = [
        page.clone().after(Duration::from_secs(60)),
        page.clone().always(Fault::StallAfter(0)),
        page.clone().always(Fault::StallAfter(5000)),
        page.clone().at_rate(500),
        // Each answer comes in time, but all of them together don't.
        page.clone().after(Duration::from_secs(8)),
        page.after(Duration::from_millis(5)).first(Fault::Fine).always(Fault::StallAfter(100)),
    ];
    std::thread::scope(|scope| {
        for page in pages {
            let noise = &noise;
            scope.spawn(move || {
                let (cloud, web) = (Cloud::new(), Web::new());
                let url = web.page("disk.xz", page);
                let start = Instant::now();
                let outcome = cloud.stat(&url).run();
                assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
                if outcome.status.success() {
                    let size = fs::metadata(noise).unwrap().len() / MIB;
                    outcome.succeeds().replies(&size.to_string());
                } else {
                    outcome
                        .refused_by_any(&[Rule::CantBeMeasured, Rule::CantBeFetched])
                        .naming("IMAGE/PATH")
                        .saying(&url);
                }
            });
        }
    });
}
