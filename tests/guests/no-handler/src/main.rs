//! A command: a good component, and none that can be called over HTTP.

fn main() {
    println!("run me from a shell");
}
