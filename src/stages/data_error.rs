//! How an error of the data layer becomes a stage's: the science knows nothing of stages.

use crate::data::DataError;
use crate::stage::StageError;

impl From<DataError> for StageError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Input(message) => Self::Input(message),
            DataError::Io(error) => Self::from(error),
        }
    }
}
