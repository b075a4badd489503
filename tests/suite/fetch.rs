//! `dflow model fetch`: public weights from a server on this machine.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use crate::run_test::RunTest;

/// The weights of the shipped classifier.
fn weights() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/weights/features-mini.safetensors");
    std::fs::read(path).unwrap()
}

/// Serves `/weights` to `times` requests, anything else is not found; gives the address.
fn server(times: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().take(times) {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let found = request[..length].starts_with(b"GET /weights ");
            let (status, body) = if found { ("200 OK", weights()) } else { ("404 Not Found", Vec::new()) };
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
                .unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    address
}

/// A home with a feature network whose weights are public at `url`.
fn home(test: &RunTest, url: &str, sha256: Option<&str>) {
    let hash = sha256.map_or(String::new(), |sha256| format!("\n    sha256: {sha256}"));
    let file = format!(
        "network: {{ conv_stack: {{ stages: [[16, 32], [48], [64]], classes: 10 }} }}\nweights: net.safetensors\n\
         folder: public\nsources:\n  - url: {url}\n    file: net.safetensors{hash}\n"
    );
    test.file("home/models/features/own.yaml", &file);
    std::fs::create_dir_all(test.path("data")).unwrap();
}

const PLACES: [&str; 4] = ["--home", "home", "--data", "data"];

fn fetch(test: &RunTest, more: &[&str]) -> crate::run_test::Finished {
    test.run(&[&["model", "fetch", "features/own"], more, &PLACES].concat())
}

#[test]
fn public_weights_are_fetched_checked_and_used() {
    let test = RunTest::new();
    home(&test, &format!("{}/weights", server(1)), None);
    let check = [&["model", "check", "features/own"] as &[&str], &PLACES].concat();
    test.run(&check).fails_with(2).stderr("net.safetensors");
    fetch(&test, &["--check"]).fails_with(4).stdout("not here; it is at http://127.0.0.1");
    fetch(&test, &[]).succeeds().stdout("unverified: no public source states one");
    test.run(&check).succeeds().stdout("64 features");
    assert_eq!(std::fs::read(test.path("data/public/net.safetensors")).unwrap(), weights());
    // The server has ended: what is here is compared with its record.
    fetch(&test, &[]).succeeds().stdout("net.safetensors");
    fetch(&test, &["--check", "--json"]).succeeds();
}

#[test]
fn what_cannot_be_fetched_says_where_the_file_goes_by_hand() {
    let test = RunTest::new();
    home(&test, &format!("{}/nothing", server(1)), None);
    fetch(&test, &[]).fails_with(1).stdout("404").stdout("data/public/net.safetensors");
    home(&test, &format!("{}/weights", server(1)), Some(&"0".repeat(64)));
    fetch(&test, &[]).fails_with(1).stdout(&"0".repeat(64)).stdout("net.safetensors");
    assert!(!test.path("data/public/net.safetensors").exists(), "another file never takes the name");
    test.run(&["model", "fetch", "mini-images"]).fails_with(2).stderr("names no public files");
    test.run(&["model", "fetch"]).fails_with(2).stderr("--all");
}
