//! A plan as people read it.

use std::fmt::Write as _;

use super::super::enable;
use super::{Plan, Resource};
use crate::args::Orphans;

impl Plan {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("rotate to {}\n", self.to);
        enable::describe(&self.enablement, &mut out);
        for resource in &self.resources {
            let Resource {
                resource,
                total,
                plaintext,
                stale,
                bytes,
                orphaned: _,
                applied,
                applied_names,
            } = resource;
            let stale = match stale {
                0 => String::new(),
                _ => format!(", {stale} under another key than the one that writes"),
            };
            let _ = writeln!(
                out,
                "\n{resource}: {total} objects of {bytes} bytes in etcd, {plaintext} of them in plaintext{stale}"
            );
            if *applied > 0 {
                let _ = writeln!(
                    out,
                    "  {applied} carry a copy of their data in kubectl apply's annotation, which crosses \
                     the wire with their metadata and is skipped:"
                );
                for name in applied_names {
                    let _ = writeln!(out, "    {name}");
                }
                let more = *applied - applied_names.len() as u64;
                if more > 0 {
                    let _ = writeln!(out, "    and {more} more");
                }
            }
        }
        let orphaned: u64 = self.resources.iter().map(|it| it.orphaned).sum();
        if orphaned > 0 {
            let _ = writeln!(
                out,
                "\nwarning: the namespace of {orphaned} objects is gone; {}:",
                match self.fate {
                    Orphans::Report =>
                        "Kubernetes before 1.37 lets nobody update them, and then the old key stays",
                    Orphans::Adopt => "it is created again, and left",
                    Orphans::Purge =>
                        "they are deleted in etcd, after their stored bytes are kept in the state directory",
                }
            );
            for key in &self.orphans {
                let _ = writeln!(out, "  {key}");
            }
            let more = orphaned.saturating_sub(self.orphans.len() as u64);
            if more > 0 {
                let _ = writeln!(out, "  and {more} more");
            }
        }
        if !self.large.is_empty() {
            out += "\nwarning: these values are about as large as etcd takes (--max-request-bytes, 1.5 MiB): what is \
                    larger once it is encrypted anew keeps the old key:\n";
        }
        for key in &self.large {
            let _ = writeln!(out, "  {key}");
        }
        if !self.waived.is_empty() {
            out += "\nwaived, for nobody can decrypt them; their stored bytes are kept in the state directory:\n";
        }
        for poison in &self.waived {
            let _ = writeln!(out, "  {}", poison.text());
        }
        out += &self.preflight.text();
        for server in &self.servers {
            let _ = writeln!(out, "\n{}: {}", server.name, server.file);
            if server.by_hand {
                let _ = writeln!(
                    out,
                    "  by hand: you copy it from another server each time that you are told"
                );
            }
            if server.readable_by_others {
                let _ = writeln!(
                    out,
                    "  warning: others than its owner can read this file, and so its keys: chmod 600 it"
                );
            }
            for chain in &server.chains {
                let _ = writeln!(out, "  {}", chain.resources.join(", "));
                if chain.stays() {
                    let _ = writeln!(out, "    stays      {}", chain.now);
                    continue;
                }
                for (sign, step, providers) in [
                    (' ', "now", &chain.now),
                    ('+', "add_read", &chain.add_read),
                    ('~', "promote", &chain.promote),
                    ('-', "drop_read", &chain.drop_read),
                ] {
                    let _ = writeln!(out, "  {sign} {step:9}  {providers}");
                }
            }
        }
        if self.decrypts {
            out += "\nwarning: what is encrypted now will be stored in plaintext: in etcd, and in every \
                    snapshot and backup from then on\n";
        }
        if let [first, copies @ ..] = &self.escrow[..] {
            let _ = writeln!(out, "\nthe new key is kept in {first}");
            for copy in copies {
                let _ = writeln!(out, "  and in {copy}");
            }
        }
        if self.canaries.is_none() {
            out += "\nno canaries: neither Secrets nor ConfigMaps are rotated; which key a server writes with \
                    is taken from what it reports, and from the census\n";
        }
        match self.load_waits {
            0 => {
                out += "\nno file is written; each server asks its plugin once a minute, and is waited for\n";
            }
            loads => {
                let _ = writeln!(
                    out,
                    "\n{loads} loads to wait for, one after the other: up to the server's poll of 60 s each, or \
                     the about 40 s that a restart keeps an API server away"
                );
            }
        }
        let _ = writeln!(
            out,
            "about {} minutes in all",
            self.preflight.expected_minutes()
        );
        out += &match &self.snapshots {
            None => "no snapshot of etcd is made: snapshots.dir names no place\n".to_owned(),
            Some(dir) => format!("a snapshot of etcd before and one after are kept in {dir}\n"),
        };
        if self.compromised {
            let encrypted = self.resources.iter().map(|it| it.total - it.plaintext);
            let _ = writeln!(
                out,
                "others have the old key: {} values are under it or an older one, and will be listed; what they \
                 hold has to be changed besides",
                encrypted.sum::<u64>()
            );
        }
        out += match self.scrub {
            true => {
                "at the end etcd's history is removed, and its members are defragmented in turn\n"
            }
            false => "etcd's history and free pages are left, with values that the old key opens\n",
        };
        out
    }
}
