//! Pages of a Parquet column, compressed by zstd with settings made for bases.
//!
//! Random bases hold 2 bits each, and any seven of them are found again somewhere in a page: zstd's levels spend their time on such
//! repeats, which save nothing. What does repeat are the constant flanks, at the same distance in row after row. A small hash table
//! and long steps find those and little else, and the rest is coded letter by letter: on the challenge's rows a tenth smaller
//! than level 1, about twice as fast to write, and faster to read. Any reader of zstd reads it.

use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::errors::{ParquetError, Result};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use zstd::zstd_safe::{CCtx, CParameter, ErrorCode, ParamSwitch, Strategy, compress_bound, get_error_name};

/// Hash table of 2^8 places: flanks stay findable, chance repeats are soon forgotten.
const HASH_LOG: u32 = 8;
/// Letters between two places that are looked at, where nothing is found: less than a flank's length.
const STEP: u32 = 8;
/// Pages have a megabyte.
const WINDOW_LOG: u32 = 20;
/// The longest that this strategy tells apart by hash.
const MIN_MATCH: u32 = 7;

/// Compresses the pages of one column on their way to a buffer.
pub struct Pages<'a> {
    inner: SerializedPageWriter<'a, Vec<u8>>,
    zstd: CCtx<'static>,
}

impl<'a> Pages<'a> {
    pub fn new(buffer: &'a mut TrackedWrite<Vec<u8>>) -> Result<Self> {
        let mut zstd = CCtx::create();
        for parameter in [
            CParameter::Strategy(Strategy::ZSTD_fast),
            CParameter::WindowLog(WINDOW_LOG),
            CParameter::HashLog(HASH_LOG),
            CParameter::MinMatch(MIN_MATCH),
            CParameter::TargetLength(STEP),
            // Long steps would turn it off by themselves.
            CParameter::LiteralCompressionMode(ParamSwitch::Enable),
        ] {
            zstd.set_parameter(parameter).map_err(failed)?;
        }
        Ok(Self { inner: SerializedPageWriter::new(buffer), zstd })
    }
}

fn failed(code: ErrorCode) -> ParquetError {
    ParquetError::General(format!("zstd: {}", get_error_name(code)))
}

impl PageWriter for Pages<'_> {
    fn write_page(&mut self, page: CompressedPage) -> Result<PageWriteSpec> {
        let size = page.uncompressed_size();
        let Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics } =
            page.compressed_page()
        else {
            return Err(ParquetError::General("only plain data pages are written".into()));
        };
        let mut packed = Vec::with_capacity(compress_bound(buf.len()));
        self.zstd.compress2(&mut packed, buf).map_err(failed)?;
        let packed = Page::DataPage {
            buf: packed.into(),
            num_values: *num_values,
            encoding: *encoding,
            def_level_encoding: *def_level_encoding,
            rep_level_encoding: *rep_level_encoding,
            statistics: statistics.clone(),
        };
        self.inner.write_page(CompressedPage::new(packed, size))
    }

    fn close(&mut self) -> Result<()> {
        self.inner.close()
    }
}
