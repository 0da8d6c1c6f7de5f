//! Compiles the message definitions without a system `protoc`.

fn main() {
    println!("cargo:rerun-if-changed=messages/framewake.proto");
    #[cfg(feature = "wire")]
    {
        let files =
            protox::compile(["messages/framewake.proto"], ["messages"]).expect("messages/framewake.proto is valid");
        let mut config = prost_build::Config::new();
        // Also the worker's answer to the local provider, which asks it which GPUs there are, and a script of the tests.
        config.type_attribute("GpuSample", "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]");
        config.compile_fds(files).expect("OUT_DIR is writable");
    }
}
