//! Upgrades: a server goes on in another image. How far one has come and what came of it, as kernel, root and /proc
//! tell each other.
//!
//! Whoever may make a server fail hands an image in. Root looks at it, has the server save its state and stop, puts the
//! image in the place of the old one and starts it. Until the new image has done something that nobody can take back
//! it is on trial: if it fails, root puts the old one in again, which goes on where it stood.

use super::named::named;

named! {
    /// How far an upgrade has come.
    Stage {
        Asked = 1, "an image has been handed in";
        Saving = 2, "the server is to save its state";
        Stopped = 3, "the server has stopped";
        Trial = 4, "the new image starts";
        Live = 5, "the new image has taken over";
        Failed = 6, "the new image has failed";
    }
}

named! {
    /// What came of an upgrade.
    Verdict {
        Done = 1, "done";
        NotAnImage = 2, "refused: it is not an image of a server";
        WrongMachine = 3, "refused: it is made for another machine";
        OtherServer = 4, "refused: it is the image of another server";
        TooLarge = 5, "refused: it does not fit where images go";
        NoRoom = 6, "refused: there is no memory left for images";
        OtherAbi = 7, "refused: it is made for another kernel";
        Schema = 8, "refused: it cannot read the state that the server saves";
        Failed = 9, "refused: it failed before it had taken over";
    }
}

/// What root does about an upgrade that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The server saves its state and stops.
    Save,
    /// The new image is in place: its start is a trial.
    Try,
    /// It is over. With [`Verdict::Done`] goes what is known of the image.
    End(Verdict, ImageFigures),
}

impl Step {
    /// As words of a system call.
    pub fn to_words(self) -> [u64; 3] {
        match self {
            Step::Save => [0, 0, 0],
            Step::Try => [1, 0, 0],
            Step::End(verdict, image) => [2, verdict as u64, image.to_word()],
        }
    }

    /// From words of a system call.
    pub fn from_words([step, verdict, image]: [u64; 3]) -> Option<Step> {
        match step {
            0 => Some(Step::Save),
            1 => Some(Step::Try),
            2 => Some(Step::End(Verdict::from_number(verdict)?, ImageFigures::from_word(image))),
            _ => None,
        }
    }
}

/// What is told of the image that a server runs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ImageFigures {
    /// The form in which it saves the server's state.
    pub schema: u32,
    /// Pages that it takes in memory.
    pub pages: u32,
}

impl ImageFigures {
    /// As a word of a system call.
    pub fn to_word(self) -> u64 {
        u64::from(self.schema) | u64::from(self.pages) << 32
    }

    /// From a word of a system call.
    pub fn from_word(word: u64) -> ImageFigures {
        ImageFigures { schema: word as u32, pages: (word >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_survives_its_words() {
        let image = ImageFigures { schema: 7, pages: 300 };
        for step in [Step::Save, Step::Try, Step::End(Verdict::Schema, image)] {
            assert_eq!(Step::from_words(step.to_words()), Some(step));
        }
        for words in [[3, 0, 0], [2, 0, 0], [2, 99, 0]] {
            assert_eq!(Step::from_words(words), None, "{words:?}");
        }
    }
}
