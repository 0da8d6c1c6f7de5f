//! Compiles the message definitions without a system `protoc`.

fn main() {
    println!("cargo:rerun-if-changed=messages/framewake.proto");
    #[cfg(feature = "wire")]
    {
        let files =
            protox::compile(["messages/framewake.proto"], ["messages"]).expect("messages/framewake.proto is valid");
        prost_build::Config::new().compile_fds(files).expect("OUT_DIR is writable");
    }
}
