//! `trace pcapng`: all records as packets of link type USER0, each as the kernel wrote it, and as its comment the line
//! that the other forms print of it. [`crate::dissector`] makes what Wireshark reads them by.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use libipc::abi::trace::{RECORD_MAX, Reader};
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};

use crate::model::Trace;

/// Timestamps are in units of ten to minus this.
const NANOSECONDS: u8 = 9;

/// The capture of a trace's file.
///
/// # Errors
/// When the writer refuses a block, which none of these is.
pub fn file(file: &[u8], trace: &Trace) -> Result<Vec<u8>> {
    let comments = comments(trace);
    let mut writer = PcapNgWriter::new(Vec::new()).context("cannot begin a capture")?;
    let interface = InterfaceDescriptionBlock {
        linktype: DataLink::USER0,
        snaplen: RECORD_MAX as u32,
        options: vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed("naiad")),
            InterfaceDescriptionOption::IfDescription(Cow::Borrowed(&trace.machine)),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ],
    };
    writer.write_pcapng_block(interface).context("cannot describe the capture")?;
    let mut reader = Reader::new(file).context("cannot read the trace")?;
    let mut number = 0;
    while let Some(Ok(record)) = reader.next() {
        let bytes = &file[record.at as usize..reader.position() as usize];
        let comment = comments.get(&number).map(|text| EnhancedPacketOption::Comment(Cow::Borrowed(text)));
        let packet = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(record.stamp.time_ns),
            original_len: bytes.len() as u32,
            data: Cow::Borrowed(bytes),
            options: comment.into_iter().collect(),
        };
        writer.write_pcapng_block(packet).context("cannot add a packet")?;
        number += 1;
    }
    Ok(writer.into_inner())
}

/// By record what there is to say of it: what a call asks where it begins, the whole of it where it ends.
fn comments(trace: &Trace) -> BTreeMap<u64, String> {
    let mut comments = BTreeMap::new();
    for call in &trace.calls {
        comments.insert(call.record, call.text());
        if let Some(last) = call.last_record {
            comments.insert(last, format!("{} = {}", call.text(), call.result()));
        }
    }
    for mark in &trace.marks {
        comments.entry(mark.record).or_insert_with(|| trace.event(mark));
    }
    comments
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcapng::{Block, PcapNgReader};

    #[test]
    fn every_record_is_a_packet_at_its_time() {
        let own = crate::synthetic::trace(3);
        let trace = crate::read(&own).unwrap();
        let capture = file(&own, &trace).unwrap();
        let mut reader = PcapNgReader::new(&capture[..]).unwrap();
        let mut records = Reader::new(&own).unwrap();
        let mut packets = 0;
        while let Some(block) = reader.next_block() {
            let Block::EnhancedPacket(packet) = block.unwrap() else { continue };
            let record = records.next().unwrap().unwrap();
            assert_eq!(packet.timestamp, Duration::from_nanos(record.stamp.time_ns));
            assert!(packet.data.ends_with(&record.payload[..0]));
            assert_eq!(packet.data.len() % 8, 0);
            packets += 1;
        }
        assert_eq!(packets, trace.records);
    }

    #[test]
    fn the_packet_that_ends_a_call_has_the_whole_call_as_its_comment() {
        let own = crate::synthetic::trace(1);
        let trace = crate::read(&own).unwrap();
        let comments = comments(&trace);
        let ends = comments.values().filter(|text| text.ends_with("= -1 ENOENT (No such file or directory)"));
        assert_eq!(ends.count(), 1);
    }
}
