//! Tests of uart.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A 16550 as its data sheet describes it, as far as the driver can tell.
#[derive(Default)]
pub struct Model {
    /// Answers every read with ones, as an empty bus does.
    pub absent: bool,
    pub no_fifos: bool,
    pub enable: u8,
    pub fifo_control: u8,
    pub line_control: u8,
    pub modem_control: u8,
    pub divisor: u16,
    /// Bytes received, each with its error bits.
    pub received: VecDeque<(u8, u8)>,
    pub overrun: bool,
    /// Bytes in the transmitter's FIFO.
    pub sending: VecDeque<u8>,
    /// "Transmitter empty" is due as a cause of interrupt.
    pub empty_due: bool,
    pub sent: Vec<u8>,
    pub longest_burst: usize,
}

impl Model {
    pub fn depth(&self) -> usize {
        if self.no_fifos || self.fifo_control & 1 == 0 { 1 } else { 16 }
    }

    /// The wire brings a byte.
    pub fn arrive(&mut self, byte: u8, errors: u8) {
        if self.received.len() < self.depth() {
            self.received.push_back((byte, errors));
        } else {
            self.overrun = true;
        }
    }

    /// The wire takes everything there is to send.
    pub fn drain(&mut self) {
        self.longest_burst = self.longest_burst.max(self.sending.len());
        self.sent.extend(self.sending.drain(..));
        self.empty_due = true;
    }

    fn errors(&self) -> u8 {
        self.received.front().map_or(0, |(_, errors)| *errors) | if self.overrun { STATUS_OVERRUN } else { 0 }
    }

    /// The cause of interrupt as the identification register names it.
    fn cause(&self) -> u8 {
        if self.enable & ENABLE_LINE_STATUS != 0 && self.errors() != 0 {
            0x06
        } else if self.enable & ENABLE_RECEIVED != 0 && !self.received.is_empty() {
            0x04
        } else if self.enable & ENABLE_TRANSMITTER_EMPTY != 0 && self.empty_due {
            0x02
        } else {
            IDENTIFY_NOTHING
        }
    }

    pub fn interrupting(&self) -> bool {
        self.cause() != IDENTIFY_NOTHING && self.modem_control & 0x08 != 0
    }

    fn latched(&self) -> bool {
        self.line_control & LINE_DIVISOR_ACCESS != 0
    }
}

impl Ports for Model {
    fn inb(&mut self, reg: u8) -> u8 {
        if self.absent {
            return 0xff;
        }
        match reg {
            register::DATA => self.received.pop_front().map_or(0, |(byte, _)| byte),
            register::INTERRUPT_OR_FIFO => {
                let cause = self.cause();
                if cause == 0x02 {
                    self.empty_due = false;
                }
                cause | if self.fifo_control & 1 != 0 && !self.no_fifos { IDENTIFY_FIFOS } else { 0 }
            }
            register::LINE_STATUS => {
                let ready = if self.received.is_empty() { 0 } else { STATUS_DATA_READY };
                let idle = STATUS_TRANSMITTER_EMPTY | STATUS_TRANSMITTER_IDLE;
                let empty = if self.sending.is_empty() { idle } else { 0 };
                let status = ready | empty | self.errors();
                self.overrun = false;
                if let Some((_, errors)) = self.received.front_mut() {
                    *errors = 0;
                }
                status
            }
            _ => 0,
        }
    }

    fn outb(&mut self, reg: u8, value: u8) {
        match reg {
            register::DATA if self.latched() => self.divisor = self.divisor & 0xff00 | u16::from(value),
            register::DATA => {
                assert!(self.sending.len() < self.depth(), "the transmitter is overfilled");
                self.sending.push_back(value);
                self.empty_due = false;
            }
            register::INTERRUPT_ENABLE if self.latched() => {
                self.divisor = self.divisor & 0xff | u16::from(value) << 8;
            }
            register::INTERRUPT_ENABLE => {
                let newly = value & !self.enable & ENABLE_TRANSMITTER_EMPTY != 0;
                self.empty_due |= newly && self.sending.is_empty();
                self.enable = value;
            }
            register::INTERRUPT_OR_FIFO => {
                if (value ^ self.fifo_control) & 1 != 0 {
                    self.received.clear();
                    self.sending.clear();
                }
                self.fifo_control = value;
            }
            register::LINE_CONTROL => self.line_control = value,
            register::MODEM_CONTROL => self.modem_control = value,
            _ => {}
        }
    }
}

/// One step of whoever owns the port: look, then send.
fn serve(uart: &mut Uart, model: &mut impl Ports) -> Intake {
    let intake = uart.receive(model);
    send(uart, model);
    intake
}

fn send(uart: &mut Uart, model: &mut impl Ports) {
    uart.send(model);
    uart.ask(false, model);
}

fn ready_with(mut model: Model) -> (Model, Uart) {
    let mut uart = Uart::default();
    uart.init(&mut model).unwrap();
    (model, uart)
}

fn ready() -> (Model, Uart) {
    let (mut model, mut uart) = ready_with(Model::default());
    assert_eq!(serve(&mut uart, &mut model), Intake::default());
    (model, uart)
}

#[test]
fn initialisation_sets_speed_framing_and_interrupts_and_forgets_old_errors() {
    let (mut model, _) =
        ready_with(Model { divisor: 0x1234, enable: 0x0f, overrun: true, ..Model::default() });
    assert_eq!((model.divisor, model.line_control, model.fifo_control), (1, LINE_8N1, FIFO_ENABLE));
    assert_eq!(model.enable, ENABLE_RECEIVED | ENABLE_LINE_STATUS);
    assert!(!model.interrupting());
    model.arrive(b'a', 0);
    assert!(model.interrupting());
}

#[test]
fn what_was_typed_before_initialisation_is_received() {
    let mut model = Model::default();
    model.arrive(b'x', 0);
    let (mut model, mut uart) = ready_with(model);
    assert!(model.interrupting());
    assert_eq!(serve(&mut uart, &mut model).received, [Received::Byte(b'x')]);
    assert_eq!(model.fifo_control, 0, "the next byte may come while the FIFOs are being turned on");
    model.arrive(b'y', 0);
    uart.start_fifos(&mut model);
    assert_eq!(serve(&mut uart, &mut model).received, [Received::Byte(b'y')]);
    uart.start_fifos(&mut model);
    assert_eq!(model.fifo_control, FIFO_ENABLE);
}

#[test]
fn a_port_that_is_not_there_is_reported() {
    let mut model = Model { absent: true, ..Model::default() };
    assert_eq!(Uart::default().init(&mut model), Err(UartError::Absent));
}

#[test]
fn bytes_stay_in_a_port_that_is_not_listened_to() {
    let (mut model, mut uart) = ready();
    uart.listen(false);
    uart.ask(false, &mut model);
    model.arrive(b'a', 0);
    assert!(!model.interrupting());
    assert!(serve(&mut uart, &mut model).received.is_empty());
    uart.listen(true);
    uart.ask(false, &mut model);
    assert!(model.interrupting());
    assert_eq!(serve(&mut uart, &mut model).received, [Received::Byte(b'a')]);
}

#[test]
fn no_interrupt_is_asked_for_while_the_owner_looks_for_itself() {
    let (mut model, mut uart) = ready();
    assert!(uart.transmit().push_all(&[b'x'; 20]));
    assert!(uart.send(&mut model));
    uart.ask(true, &mut model);
    model.drain();
    assert!(!model.interrupting());
    uart.ask(false, &mut model);
    assert!(model.interrupting());
}

#[test]
fn received_bytes_come_in_order_with_their_own_errors() {
    let (mut model, mut uart) = ready();
    model.arrive(b'a', 0);
    model.arrive(b'b', STATUS_PARITY_ERROR);
    model.arrive(0, STATUS_BREAK | STATUS_FRAMING_ERROR);
    model.arrive(b'c', 0);
    assert!(model.interrupting());
    let intake = serve(&mut uart, &mut model);
    let expected =
        [Received::Byte(b'a'), Received::Damaged(b'b'), Received::Break, Received::Byte(b'c')].to_vec();
    assert_eq!(intake, Intake { received: expected, more: false });
    assert!(!model.interrupting());
}

#[test]
fn an_error_seen_while_sending_stays_with_its_byte() {
    let (mut model, mut uart) = ready();
    model.arrive(b'a', STATUS_PARITY_ERROR);
    assert!(uart.transmit().push(b'x'));
    send(&mut uart, &mut model);
    model.arrive(b'b', 0);
    let intake = serve(&mut uart, &mut model);
    assert_eq!(intake.received, [Received::Damaged(b'a'), Received::Byte(b'b')]);
}

#[test]
fn an_overrun_is_counted_once_and_harms_no_byte() {
    let (mut model, mut uart) = ready();
    for _ in 0..20 {
        model.arrive(b'a', 0);
    }
    let intake = serve(&mut uart, &mut model);
    assert_eq!(intake.received, [Received::Byte(b'a'); 16]);
    assert_eq!(uart.overruns(), 1);
}

#[test]
fn output_leaves_in_bursts_of_the_fifo_and_the_interrupt_is_given_back() {
    for (no_fifos, burst) in [(false, 16), (true, 1)] {
        let (mut model, mut uart) = ready_with(Model { no_fifos, ..Model::default() });
        assert!(serve(&mut uart, &mut model).received.is_empty());
        let text: Vec<u8> = (0..50).collect();
        assert!(uart.transmit().push_all(&text));
        send(&mut uart, &mut model);
        while uart.waiting() > 0 {
            model.drain();
            assert!(model.interrupting(), "the port asks for more");
            assert!(serve(&mut uart, &mut model).received.is_empty());
        }
        model.drain();
        assert_eq!((model.sent.as_slice(), model.longest_burst), (text.as_slice(), burst));
        assert!(!model.interrupting(), "nothing is left, so nothing is asked");
    }
}

#[test]
fn held_output_stays_until_it_is_released() {
    let (mut model, mut uart) = ready();
    uart.hold(true);
    assert!(uart.transmit().push_all(b"abc"));
    send(&mut uart, &mut model);
    assert!(model.sending.is_empty() && !model.interrupting());
    uart.hold(false);
    send(&mut uart, &mut model);
    assert_eq!(model.sending, b"abc");
}

#[test]
fn a_break_is_put_on_the_line_and_taken_off() {
    let (mut model, mut uart) = ready();
    uart.set_break(true, &mut model);
    assert_eq!(model.line_control, LINE_8N1 | LINE_BREAK);
    uart.set_break(false, &mut model);
    assert_eq!(model.line_control, LINE_8N1);
}

/// A port whose registers say whatever they like, and in the end the same for ever.
struct Mad {
    answers: Vec<u8>,
    last: u8,
}

impl Ports for Mad {
    fn inb(&mut self, _: u8) -> u8 {
        self.answers.pop().unwrap_or(self.last)
    }

    fn outb(&mut self, _: u8, _: u8) {}
}

#[test]
fn a_port_that_never_stops_interrupting_is_left_for_another_time() {
    for last in [0, STATUS_OVERRUN, STATUS_TRANSMITTER_EMPTY] {
        let (_, mut uart) = ready();
        let intake = serve(&mut uart, &mut Mad { answers: Vec::new(), last });
        assert_eq!(intake, Intake { received: Vec::new(), more: true });
    }
}

proptest! {
    #[test]
    fn a_mad_port_cannot_hold_the_driver_for_ever(
        answers in prop::collection::vec(any::<u8>(), 0..600),
        last: u8,
    ) {
        let (_, mut uart) = ready();
        let _ = uart.transmit().push_all(&[7; 100]);
        let intake = serve(&mut uart, &mut Mad { answers, last });
        prop_assert!(intake.received.len() <= RECEIVE_BATCH);
    }

    #[test]
    fn every_byte_arrives_and_leaves_once_and_in_order(events in prop::collection::vec(0..4_u8, 0..200)) {
        let (mut model, mut uart) = ready();
        let (mut arrived, mut received, mut written) = (Vec::new(), Vec::new(), Vec::new());
        for (index, event) in events.iter().enumerate() {
            let byte = index as u8;
            match event {
                0 if model.received.len() < 16 => {
                    model.arrive(byte, 0);
                    arrived.push(Received::Byte(byte));
                }
                1 => {
                    prop_assert!(uart.transmit().push_all(&[byte; 9]));
                    written.extend([byte; 9]);
                    send(&mut uart, &mut model);
                }
                2 => model.drain(),
                _ if model.interrupting() => received.extend(serve(&mut uart, &mut model).received),
                _ => {}
            }
        }
        while model.interrupting() || !model.sending.is_empty() {
            received.extend(serve(&mut uart, &mut model).received);
            model.drain();
        }
        prop_assert_eq!(received, arrived);
        prop_assert_eq!(&model.sent, &written);
        prop_assert_eq!(uart.waiting(), 0);
    }
}
