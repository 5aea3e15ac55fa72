//! First enablement: from API servers that know of no EncryptionConfiguration to ones that run with one
//! in which `identity` still writes, so that a rotation can begin.

/// One API server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Enabling {
    /// The file is on its machine.
    pub has_file: bool,
    /// Its manifest names the file.
    pub has_flag: bool,
    /// It serves; and where its manifest names the file, it runs with that.
    pub is_up: bool,
}

/// What to do now. A number is an index into the servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EnableStep {
    /// Put the file on the server's machine.
    PlaceFile(usize),
    /// Write the setting to where kubeadm takes it from when it makes manifests.
    TellKubeadm,
    /// Wait until the server serves, with its file where it has one.
    Await(usize),
    /// Write the flag to the server's manifest, whereupon it restarts.
    Enable(usize),
    /// Every server runs with the file.
    Enabled,
}

/// The next step.
pub fn next(servers: &[Enabling], kubeadm_knows: bool) -> EnableStep {
    let at = |is: fn(&Enabling) -> bool| servers.iter().position(is);
    // A server whose manifest names a file that is not there does not start.
    if let Some(server) = at(|it| !it.has_file) {
        return EnableStep::PlaceFile(server);
    }
    // Before any manifest has it: what kubeadm does not know it takes away again.
    if !kubeadm_knows {
        return EnableStep::TellKubeadm;
    }
    // One that is away is enough.
    if let Some(server) = at(|it| !it.is_up) {
        return EnableStep::Await(server);
    }
    match at(|it| !it.has_flag) {
        Some(server) => EnableStep::Enable(server),
        None => EnableStep::Enabled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(has_file: bool, has_flag: bool, is_up: bool) -> Enabling {
        Enabling {
            has_file,
            has_flag,
            is_up,
        }
    }

    #[test]
    fn files_first_then_kubeadm_then_one_server_at_a_time() {
        let (bare, placed) = (server(false, false, true), server(true, false, true));
        let (away, done) = (server(true, true, false), server(true, true, true));
        for (servers, kubeadm_knows, step) in [
            ([bare, bare, bare], false, EnableStep::PlaceFile(0)),
            ([placed, bare, placed], true, EnableStep::PlaceFile(1)),
            ([placed, placed, placed], false, EnableStep::TellKubeadm),
            ([placed, placed, placed], true, EnableStep::Enable(0)),
            ([away, placed, placed], true, EnableStep::Await(0)),
            ([done, placed, placed], true, EnableStep::Enable(1)),
            ([done, done, away], true, EnableStep::Await(2)),
            ([done, done, done], true, EnableStep::Enabled),
        ] {
            assert_eq!(next(&servers, kubeadm_knows), step, "{servers:?}");
        }
    }

    /// From every state: never two away by our doing, never a flag without its file, and an end.
    #[test]
    fn from_anywhere_it_ends_and_never_two_servers_are_away() {
        for state in 0..512_usize {
            let bit = |i: usize| state >> i & 1 == 1;
            let mut servers = [0, 3, 6].map(|i| server(bit(i), bit(i + 1), bit(i + 2)));
            for kubeadm in [false, true] {
                let mut knows = kubeadm;
                let mut left = 20;
                loop {
                    match next(&servers, knows) {
                        EnableStep::PlaceFile(i) => servers[i].has_file = true,
                        EnableStep::TellKubeadm => knows = true,
                        EnableStep::Await(i) => servers[i].is_up = true,
                        EnableStep::Enable(i) => {
                            assert!(servers.iter().all(|it| it.is_up && it.has_file) && knows);
                            servers[i].has_flag = true;
                            servers[i].is_up = false;
                        }
                        EnableStep::Enabled => break,
                    }
                    left -= 1;
                    assert!(left > 0, "{state}");
                }
                assert_eq!(servers, [server(true, true, true); 3]);
                assert!(knows);
            }
        }
    }
}
