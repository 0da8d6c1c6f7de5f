//! The corpus between its files in the repository and the folders that the fuzzer works in:
//! `corpus names`, `corpus unpack FOLDER`, `corpus pack FOLDER`; in FOLDER is a folder for each target.

#![allow(clippy::print_stdout)] // What it prints is for a script.

use anyhow::{Result, bail};
use framewake_fuzz::corpus;
use std::path::Path;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for target in corpus::names() {
        match words.as_slice() {
            ["names"] => println!("{target}"),
            ["unpack", folder] => {
                let count = corpus::unpack(target, &Path::new(folder).join(target))?;
                println!("{target}: {count} inputs");
            }
            ["pack", folder] => {
                let count = corpus::pack(target, &Path::new(folder).join(target))?;
                println!("{target}: {count} inputs kept");
            }
            _ => bail!("usage: corpus names | unpack FOLDER | pack FOLDER"),
        }
    }
    Ok(())
}
