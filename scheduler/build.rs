//! Compiles KEDA's messages without a system `protoc`.

fn main() {
    println!("cargo:rerun-if-changed=messages/externalscaler.proto");
    let files = protox::compile(["messages/externalscaler.proto"], ["messages"]).expect("the messages are valid");
    tonic_prost_build::configure().compile_fds(files).expect("OUT_DIR is writable");
}
