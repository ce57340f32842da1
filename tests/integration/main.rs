//! The real binary, from outside: the wire, the commands, workers, files, signals, and what the documents say.

mod access;
mod backup;
mod bench_command;
mod check;
mod client;
mod commands;
mod commands_document;
mod database_file;
mod extension;
mod http;
mod http_document;
mod operations;
mod peers;
mod process;
mod protocol_document;
mod readers;
mod service;
mod sql_document;
mod tls;
mod tokens;
mod transcripts;
mod tutorial;
mod ui;
mod wire;
mod work;
mod work_specs_document;
