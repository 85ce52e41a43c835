// @NAME@ for simulation, after UG573: @BYTES@ bytes of 8 + 1 bits, two ports, simple dual port at twice the width.
// Without cascades and ECC, whose ports are not declared, and inverted pins.
module @NAME@ #(
@INITS@
  parameter [@TOP@:0] INIT_A = 0, parameter [@TOP@:0] INIT_B = 0,
  parameter [@TOP@:0] SRVAL_A = 0, parameter [@TOP@:0] SRVAL_B = 0,
  parameter CLOCK_DOMAINS = "INDEPENDENT", parameter SIM_COLLISION_CHECK = "ALL",
  parameter WRITE_MODE_A = "NO_CHANGE", parameter WRITE_MODE_B = "NO_CHANGE",
  parameter RSTREG_PRIORITY_A = "RSTREG", parameter RSTREG_PRIORITY_B = "RSTREG",
  parameter integer DOA_REG = 1, parameter integer DOB_REG = 1,
  parameter integer READ_WIDTH_A = 0, parameter integer READ_WIDTH_B = 0,
  parameter integer WRITE_WIDTH_A = 0, parameter integer WRITE_WIDTH_B = 0,
  parameter [0:0] IS_CLKARDCLK_INVERTED = 1'b0, parameter [0:0] IS_CLKBWRCLK_INVERTED = 1'b0,
  parameter [0:0] IS_ENARDEN_INVERTED = 1'b0, parameter [0:0] IS_ENBWREN_INVERTED = 1'b0,
  parameter [0:0] IS_RSTRAMARSTRAM_INVERTED = 1'b0, parameter [0:0] IS_RSTRAMB_INVERTED = 1'b0
) (
  input [@ADDRESS@:0] ADDRARDADDR, input [@ADDRESS@:0] ADDRBWRADDR, input ADDRENA, input ADDRENB, input SLEEP,
  input CLKARDCLK, input CLKBWRCLK, input ENARDEN, input ENBWREN, input REGCEAREGCE, input REGCEB,
  input RSTRAMARSTRAM, input RSTRAMB, input RSTREGARSTREG, input RSTREGB,
  input [@HALF@-1:0] DINADIN, input [@HALF@-1:0] DINBDIN,
  input [@HALF@/8-1:0] DINPADINP, input [@HALF@/8-1:0] DINPBDINP,
  input [@HALF@/8-1:0] WEA, input [2*@HALF@/8-1:0] WEBWE,
  output [@HALF@-1:0] DOUTADOUT, output [@HALF@-1:0] DOUTBDOUT,
  output [@HALF@/8-1:0] DOUTPADOUTP, output [@HALF@/8-1:0] DOUTPBDOUTP
);
  localparam HALF = @HALF@, FULL = 2 * HALF, WIDE = HALF * 9 / 4;        // WIDE: both halves, parity included
  localparam WIDE_READ = READ_WIDTH_A == WIDE, WIDE_WRITE = WRITE_WIDTH_B == WIDE;
  initial if (IS_CLKARDCLK_INVERTED || IS_CLKBWRCLK_INVERTED || IS_ENARDEN_INVERTED || IS_ENBWREN_INVERTED
              || IS_RSTRAMARSTRAM_INVERTED || IS_RSTRAMB_INVERTED)
    $fatal(1, "@NAME@: this model has no inverted pins");
  reg [7:0] data [0:@BYTES@-1];
  reg parity [0:@BYTES@-1];
  integer i;
  initial begin
@FILL@
  end

  // Data bits of an access: 1, 2 or 4 without parity, else whole bytes.
  function integer bits(input integer width);
    bits = width < 9 ? width : width / 9 * 8;
  endfunction
  localparam RA = bits(READ_WIDTH_A), RB = bits(READ_WIDTH_B), WA = bits(WRITE_WIDTH_A), WB = bits(WRITE_WIDTH_B);
  function [31:0] start(input integer width, input [@ADDRESS@:0] address);
    start = width == 0 ? 0 : {{(31-@ADDRESS@){1'b0}}, address} / width * width;
  endfunction

  wire [FULL-1:0] in_a = {{HALF{1'b0}}, DINADIN};
  wire [FULL-1:0] in_b = WIDE_WRITE ? {DINBDIN, DINADIN} : {{HALF{1'b0}}, DINBDIN};
  wire [FULL/8-1:0] inp_a = {{HALF/8{1'b0}}, DINPADINP};
  wire [FULL/8-1:0] inp_b = WIDE_WRITE ? {DINPBDINP, DINPADINP} : {{HALF/8{1'b0}}, DINPBDINP};
  reg [FULL-1:0] read_a = 0, read_b = 0, out_a = 0, out_b = 0;
  reg [FULL/8-1:0] readp_a = 0, readp_b = 0, outp_a = 0, outp_b = 0;
  // a wide read takes its upper half of INIT and SRVAL from port B
  wire [FULL-1:0] sr_a = WIDE_READ ? {SRVAL_B[HALF-1:0], SRVAL_A[HALF-1:0]} : {{HALF{1'b0}}, SRVAL_A[HALF-1:0]};
  wire [FULL/8-1:0] srp_a = WIDE_READ ? {SRVAL_B[@TOP@:HALF], SRVAL_A[@TOP@:HALF]}
                                      : {{HALF/8{1'b0}}, SRVAL_A[@TOP@:HALF]};
  initial begin
    read_a = WIDE_READ ? {INIT_B[HALF-1:0], INIT_A[HALF-1:0]} : {{HALF{1'b0}}, INIT_A[HALF-1:0]};
    readp_a = WIDE_READ ? {INIT_B[@TOP@:HALF], INIT_A[@TOP@:HALF]} : {{HALF/8{1'b0}}, INIT_A[@TOP@:HALF]};
    read_b = {{HALF{1'b0}}, INIT_B[HALF-1:0]};
    readp_b = {{HALF/8{1'b0}}, INIT_B[@TOP@:HALF]};
    out_a = read_a; outp_a = readp_a; out_b = read_b; outp_b = readp_b;
  end

@PORTS@
  wire [FULL-1:0] q_a = DOA_REG == 1 ? out_a : read_a, q_b = DOB_REG == 1 ? out_b : read_b;
  wire [FULL/8-1:0] qp_a = DOA_REG == 1 ? outp_a : readp_a, qp_b = DOB_REG == 1 ? outp_b : readp_b;
  assign DOUTADOUT = q_a[HALF-1:0];
  assign DOUTPADOUTP = qp_a[HALF/8-1:0];
  assign DOUTBDOUT = WIDE_READ ? q_a[FULL-1:HALF] : q_b[HALF-1:0];
  assign DOUTPBDOUTP = WIDE_READ ? qp_a[FULL/8-1:HALF/8] : qp_b[HALF/8-1:0];
endmodule
