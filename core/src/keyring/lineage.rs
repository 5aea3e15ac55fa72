//! Whether one keyring file may take the place of another one: it has to come from it.
//!
//! A generation is minted on one node and pushed to the others. A file that comes in has everything
//! that is here and is newer, or it is refused with what it would lose.

use super::{Error, Keyring, Stage};

impl Keyring {
    /// Takes over what `former` alone knows, if `self` descends from it. False if it is the same
    /// keyring, in the same state.
    pub fn succeed(&mut self, former: &Keyring) -> Result<bool, Error> {
        if self.id != former.id {
            return Err(Error::OtherKeyring {
                found: self.id,
                here: former.id,
            });
        }
        for ours in &former.generations {
            let Some(theirs) = self.generations.iter().find(|it| it.n == ours.n) else {
                return Err(Error::Lacks(ours.n));
            };
            if theirs.key_id != ours.key_id {
                return Err(Error::Fork(ours.n));
            }
            if ours.stage == Stage::Retired && theirs.stage != Stage::Retired {
                return Err(Error::Resurrected(ours.n));
            }
        }
        if self.serial < former.serial {
            return Err(Error::Older {
                found: self.serial,
                here: former.serial,
            });
        }
        if self.serial == former.serial {
            return match self.generations == former.generations {
                true => Ok(false),
                false => Err(Error::Diverged(self.serial)),
            };
        }
        if self.active().n < former.active().n {
            return Err(Error::Former(self.active().n));
        }
        self.taken = self.taken.max(former.taken);
        self.cluster = self.cluster.take().or_else(|| former.cluster.clone());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn keyring() -> Keyring {
        Keyring::mint(Timestamp::UNIX_EPOCH).unwrap()
    }

    fn after(former: &Keyring, change: impl FnOnce(&mut Keyring)) -> Keyring {
        let mut next = former.clone();
        change(&mut next);
        next
    }

    fn add(keyring: &mut Keyring) {
        keyring.add(Timestamp::UNIX_EPOCH).unwrap();
    }

    #[test]
    fn what_descends_from_the_present_one_takes_its_place() {
        let first = keyring();
        let second = after(&first, add);
        let third = after(&second, |it| assert!(it.activate(2).unwrap()));
        for (next, former) in [(&second, &first), (&third, &second), (&third, &first)] {
            assert!(next.clone().succeed(former).unwrap());
        }
        assert!(!first.clone().succeed(&first).unwrap());
        let confirmed = after(&first, |it| it.confirm(7).unwrap());
        let mut next = after(&second, |it| assert!(it.activate(2).unwrap()));
        assert!(next.succeed(&confirmed).unwrap());
        assert_eq!(next.highest(), 7);
    }

    #[test]
    fn every_kind_of_fork_is_refused() {
        let first = keyring();
        let second = after(&first, add);
        let refusal = |next: &Keyring, former: &Keyring| next.clone().succeed(former).unwrap_err();

        assert!(matches!(
            refusal(&keyring(), &first),
            Error::OtherKeyring { .. }
        ));
        let minted_elsewhere = after(&first, add);
        assert!(matches!(
            refusal(&minted_elsewhere, &second),
            Error::Fork(2)
        ));
        assert!(matches!(refusal(&first, &second), Error::Lacks(2)));
        let here = after(&second, |it| assert!(it.activate(2).unwrap()));
        assert!(matches!(
            refusal(&second, &here),
            Error::Older { found: 2, here: 3 }
        ));
        let mut there = second.clone();
        there.serial = 3;
        assert!(matches!(refusal(&there, &here), Error::Diverged(3)));
        let mut retired = here.clone();
        retired.generations[0].stage = Stage::Retired;
        there.serial = 9;
        assert!(matches!(refusal(&there, &retired), Error::Resurrected(1)));
        assert!(matches!(refusal(&there, &here), Error::Former(1)));
    }
}
