// URAM288 for simulation, after UG573: 4096 words of 72 bits, two ports on one clock, port A before port B.
// Without error correction, cascades, input registers and sleep: their ports are not declared, their parameters
// stop the simulation. Memory and outputs are zero at the start.
module URAM288 #(
  parameter BWE_MODE_A = "PARITY_INTERLEAVED", parameter BWE_MODE_B = "PARITY_INTERLEAVED",
  parameter CASCADE_ORDER_A = "NONE", parameter CASCADE_ORDER_B = "NONE",
  parameter EN_AUTO_SLEEP_MODE = "FALSE", parameter integer AUTO_SLEEP_LATENCY = 8,
  parameter integer AVG_CONS_INACTIVE_CYCLES = 10,
  parameter EN_ECC_RD_A = "FALSE", parameter EN_ECC_RD_B = "FALSE",
  parameter EN_ECC_WR_A = "FALSE", parameter EN_ECC_WR_B = "FALSE",
  parameter IREG_PRE_A = "FALSE", parameter IREG_PRE_B = "FALSE",
  parameter OREG_A = "FALSE", parameter OREG_B = "FALSE",
  parameter OREG_ECC_A = "FALSE", parameter OREG_ECC_B = "FALSE",
  parameter RST_MODE_A = "SYNC", parameter RST_MODE_B = "SYNC", parameter [0:0] IS_CLK_INVERTED = 1'b0
) (
  input CLK, input SLEEP,
  input [22:0] ADDR_A, input [8:0] BWE_A, input [71:0] DIN_A, input EN_A, input RDB_WR_A, input RST_A,
  input OREG_CE_A, input INJECT_DBITERR_A, input INJECT_SBITERR_A, output [71:0] DOUT_A,
  input [22:0] ADDR_B, input [8:0] BWE_B, input [71:0] DIN_B, input EN_B, input RDB_WR_B, input RST_B,
  input OREG_CE_B, input INJECT_DBITERR_B, input INJECT_SBITERR_B, output [71:0] DOUT_B
);
  initial if (CASCADE_ORDER_A != "NONE" || CASCADE_ORDER_B != "NONE" || EN_ECC_RD_A != "FALSE"
              || EN_ECC_RD_B != "FALSE" || EN_ECC_WR_A != "FALSE" || EN_ECC_WR_B != "FALSE"
              || IREG_PRE_A != "FALSE" || IREG_PRE_B != "FALSE" || OREG_ECC_A != "FALSE" || OREG_ECC_B != "FALSE"
              || EN_AUTO_SLEEP_MODE != "FALSE" || IS_CLK_INVERTED)
    $fatal(1, "URAM288: this model has no cascade, ECC, input register, sleep or inverted clock");
  reg [71:0] mem [0:4095];
  integer i;
  initial for (i = 0; i < 4096; i = i + 1) mem[i] = 72'd0;

  function [71:0] mask(input [8:0] enable, input interleaved);
    integer k;
    begin
      for (k = 0; k < 8; k = k + 1) begin
        mask[8 * k +: 8] = {8{enable[k]}};
        mask[64 + k] = interleaved ? enable[k] : enable[8];
      end
    end
  endfunction
  wire [71:0] mask_a = mask(BWE_A, BWE_MODE_A == "PARITY_INTERLEAVED");
  wire [71:0] mask_b = mask(BWE_B, BWE_MODE_B == "PARITY_INTERLEAVED");
  reg [71:0] read_a = 0, read_b = 0, out_a = 0, out_b = 0;
  // verilator lint_off BLKSEQ
  always @(posedge CLK) begin
    if (RST_A) out_a <= 0; else if (OREG_CE_A) out_a <= read_a;
    if (RST_B) out_b <= 0; else if (OREG_CE_B) out_b <= read_b;
    if (RST_A) read_a <= 0;
    else if (EN_A && !RDB_WR_A) read_a <= mem[ADDR_A[11:0]];
    if (EN_A && RDB_WR_A) mem[ADDR_A[11:0]] = (mem[ADDR_A[11:0]] & ~mask_a) | (DIN_A & mask_a);
    if (RST_B) read_b <= 0;
    else if (EN_B && !RDB_WR_B) read_b <= mem[ADDR_B[11:0]];
    if (EN_B && RDB_WR_B) mem[ADDR_B[11:0]] = (mem[ADDR_B[11:0]] & ~mask_b) | (DIN_B & mask_b);
  end
  // verilator lint_on BLKSEQ
  // an asynchronous reset is seen at once; one that comes and goes between two clock edges leaves no trace here
  wire clear_a = RST_MODE_A == "ASYNC" && RST_A, clear_b = RST_MODE_B == "ASYNC" && RST_B;
  assign DOUT_A = clear_a ? 72'd0 : OREG_A == "TRUE" ? out_a : read_a;
  assign DOUT_B = clear_b ? 72'd0 : OREG_B == "TRUE" ? out_b : read_b;
endmodule
