//! Which rank a process is, and on which GPU it computes: what its launcher says in the environment.

/// What names a process's rank, the number of ranks, and its rank among those of its node. The launcher nearest to the
/// process comes first: `mpirun` and `torchrun` also work within a job of Slurm, whose variables then name themselves.
const LAUNCHERS: [[&str; 3]; 3] = [
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
    ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
    ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"],
];

/// A process among those that were started with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub rank: usize,
    pub world: usize,
    /// Among the ranks of its node.
    pub local: usize,
}

impl Place {
    /// Reads the variables of the first launcher that has set all of its own.
    pub fn find(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let set = |names: [&'static str; 3]| {
            let [rank, world, local] = names.map(|name| variable(name).map(|value| (name, value)));
            Some([rank?, world?, local?])
        };
        let Some(values) = LAUNCHERS.into_iter().find_map(set) else {
            let names = LAUNCHERS.map(|names| names.join(", "));
            return Err(format!(
                "nothing says which rank this process is: a launcher sets {} (mpirun of Open MPI), {} (torchrun) or {} (srun)",
                names[0], names[1], names[2]
            ));
        };
        let number = |(name, value): &(&str, String)| {
            value.trim().parse::<usize>().map_err(|_| format!("{name} is {value:?}, which is no number of ranks"))
        };
        let [rank, world, local] = [number(&values[0])?, number(&values[1])?, number(&values[2])?];
        if rank >= world || local >= world {
            let said = values.map(|(name, value)| format!("{name}={value}")).join(", ");
            return Err(format!("there is no such rank: {said}"));
        }
        Ok(Self { rank, world, local })
    }

    /// The GPU of this rank, of those that the driver shows to it: ranks of a node take one each, from `first` on.
    ///
    /// `narrowed` says that somebody chose what is shown: a launcher that gives each rank a GPU of its own shows it that
    /// alone.
    pub fn gpu(self, first: u8, shown: usize, narrowed: bool) -> Result<u8, String> {
        let Self { rank, local, .. } = self;
        if shown == 1 && narrowed {
            return Ok(0);
        }
        let number = usize::from(first) + local;
        match (shown, u8::try_from(number)) {
            (0, _) => Err(format!("rank {rank}: the driver shows it no GPU (CUDA_VISIBLE_DEVICES may hide them)")),
            (_, Ok(gpu)) if number < shown => Ok(gpu),
            _ => Err(format!(
                "rank {rank} is the {} on its node and would take cuda:{number}, but there {}: ranks don't share a GPU; have \
                 fewer `ranks`, or more nodes",
                nth(local + 1),
                if shown == 1 { "is cuda:0 alone".to_owned() } else { format!("are cuda:0 to cuda:{}", shown - 1) },
            )),
        }
    }
}

/// `1st`, `2nd`, `11th`.
fn nth(number: usize) -> String {
    let end = match (number % 10, number % 100) {
        (1, n) if n != 11 => "st",
        (2, n) if n != 12 => "nd",
        (3, n) if n != 13 => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &str)]) -> Result<Place, String> {
        Place::find(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn each_launcher_says_which_rank_a_process_is() {
        let slurm = [("SLURM_PROCID", "3"), ("SLURM_NTASKS", "4"), ("SLURM_LOCALID", "1")];
        let mpirun =
            [("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_SIZE", "8"), ("OMPI_COMM_WORLD_LOCAL_RANK", "0")];
        let torchrun = [("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")];
        assert_eq!(find(&slurm), Ok(Place { rank: 3, world: 4, local: 1 }));
        assert_eq!(find(&mpirun), Ok(Place { rank: 2, world: 8, local: 0 }));
        assert_eq!(find(&torchrun), Ok(Place { rank: 1, world: 2, local: 1 }));
        // The nearest launcher is heard; one that sets some of its names alone is none.
        assert_eq!(find(&[slurm, mpirun].concat()), find(&mpirun));
        assert_eq!(find(&[slurm, torchrun].concat()), find(&torchrun));
        assert_eq!(find(&[&slurm[..], &torchrun[..2]].concat()), find(&slurm));
    }

    #[test]
    fn a_process_whose_rank_is_not_said_or_can_t_be_is_refused_in_words() {
        let silent = find(&[("SLURM_PROCID", "0")]).expect_err("not all three");
        assert!(silent.contains("SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID (srun)"), "{silent}");
        let words = [("RANK", "one"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")];
        assert_eq!(find(&words).expect_err("no number"), "RANK is \"one\", which is no number of ranks");
        let beyond = [("RANK", "2"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")];
        assert_eq!(find(&beyond).expect_err("of two"), "there is no such rank: RANK=2, WORLD_SIZE=2, LOCAL_RANK=0");
    }

    #[test]
    fn ranks_of_a_node_take_a_gpu_each() {
        let at = |rank, local| Place { rank, world: 16, local };
        assert_eq!(at(9, 1).gpu(0, 8, false), Ok(1));
        assert_eq!(at(9, 1).gpu(2, 8, true), Ok(3));
        // Each is shown its own alone.
        assert_eq!(at(5, 5).gpu(0, 1, true), Ok(0));
        assert_eq!(at(0, 0).gpu(0, 1, false), Ok(0));
        let refused = |place: Place, first, shown| place.gpu(first, shown, false).expect_err("too few");
        let shared = refused(at(1, 1), 0, 1);
        assert!(
            shared.starts_with("rank 1 is the 2nd on its node and would take cuda:1, but there is cuda:0 alone"),
            "{shared}"
        );
        assert!(refused(at(7, 2), 6, 8).contains("would take cuda:8, but there are cuda:0 to cuda:7"));
        assert!(refused(at(7, 2), 0, 0).contains("no GPU"));
    }
}
