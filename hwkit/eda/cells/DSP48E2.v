// DSP48E2 for simulation, after UG579: pre-adder, multiplier, 48-bit adder, cascades, all pipeline registers.
// What is left out stops the simulation instead of being computed wrongly: SIMD, pattern detection, the wide XOR,
// logic functions, the pre-adder on B, carry cascades. Their ports are not declared.
module DSP48E2 #(
  parameter AMULTSEL = "A", parameter BMULTSEL = "B", parameter A_INPUT = "DIRECT", parameter B_INPUT = "DIRECT",
  parameter PREADDINSEL = "A", parameter USE_MULT = "MULTIPLY", parameter USE_SIMD = "ONE48",
  parameter USE_PATTERN_DETECT = "NO_PATDET", parameter USE_WIDEXOR = "FALSE",
  parameter AUTORESET_PATDET = "NO_RESET", parameter AUTORESET_PRIORITY = "RESET", parameter XORSIMD = "XOR24_48_96",
  parameter SEL_MASK = "MASK", parameter SEL_PATTERN = "PATTERN",
  parameter [47:0] RND = 48'd0, parameter [47:0] MASK = 48'h3FFFFFFFFFFF, parameter [47:0] PATTERN = 48'd0,
  parameter integer ACASCREG = 1, parameter integer ADREG = 1, parameter integer ALUMODEREG = 1,
  parameter integer AREG = 1, parameter integer BCASCREG = 1, parameter integer BREG = 1,
  parameter integer CARRYINREG = 1, parameter integer CARRYINSELREG = 1, parameter integer CREG = 1,
  parameter integer DREG = 1, parameter integer INMODEREG = 1, parameter integer MREG = 1,
  parameter integer OPMODEREG = 1, parameter integer PREG = 1
) (
  input CLK, input [29:0] A, input [17:0] B, input [47:0] C, input [26:0] D,
  input [29:0] ACIN, input [17:0] BCIN, input [47:0] PCIN, input CARRYCASCIN, input MULTSIGNIN,
  input [3:0] ALUMODE, input [4:0] INMODE, input [8:0] OPMODE, input CARRYIN, input [2:0] CARRYINSEL,
  input CEA1, input CEA2, input CEAD, input CEALUMODE, input CEB1, input CEB2, input CEC, input CECARRYIN,
  input CECTRL, input CED, input CEINMODE, input CEM, input CEP,
  input RSTA, input RSTALLCARRYIN, input RSTALUMODE, input RSTB, input RSTC, input RSTCTRL, input RSTD,
  input RSTINMODE, input RSTM, input RSTP,
  output [29:0] ACOUT, output [17:0] BCOUT, output [47:0] PCOUT, output [47:0] P
);
  initial if (USE_SIMD != "ONE48" || PREADDINSEL != "A" || BMULTSEL != "B" || USE_WIDEXOR != "FALSE"
              || USE_PATTERN_DETECT != "NO_PATDET" || (AMULTSEL != "A" && AMULTSEL != "AD"))
    $fatal(1, "DSP48E2: this model has no SIMD, pattern detection, wide XOR or pre-adder on B");

  // registers, all zero at the start; one that is configured away is not read
  reg [29:0] a1 = 0, a2 = 0;
  reg [17:0] b1 = 0, b2 = 0;
  reg [47:0] cr = 0, pr = 0;
  reg signed [26:0] dr = 0, adr = 0;
  reg signed [44:0] mr = 0;
  reg [3:0] alur = 0;
  reg [4:0] inr = 0;
  reg [8:0] opr = 0;
  reg [2:0] selr = 0;
  reg carryr = 0;

  wire [29:0] a_in = A_INPUT == "CASCADE" ? ACIN : A;
  wire [17:0] b_in = B_INPUT == "CASCADE" ? BCIN : B;
  wire [29:0] a = AREG == 0 ? a_in : a2;
  wire [17:0] b = BREG == 0 ? b_in : b2;
  wire [47:0] c = CREG == 0 ? C : cr;
  wire signed [26:0] d = DREG == 0 ? D : dr;
  wire [3:0] alumode = ALUMODEREG == 0 ? ALUMODE : alur;
  wire [4:0] inmode = INMODEREG == 0 ? INMODE : inr;
  wire [8:0] opmode = OPMODEREG == 0 ? OPMODE : opr;
  wire [2:0] carryinsel = CARRYINSELREG == 0 ? CARRYINSEL : selr;
  wire carry = CARRYINREG == 0 ? CARRYIN : carryr;
  assign ACOUT = ACASCREG == AREG ? a : ACASCREG == 1 ? a1 : a_in;
  assign BCOUT = BCASCREG == BREG ? b : BCASCREG == 1 ? b1 : b_in;

  wire signed [26:0] a_gated = inmode[1] ? 27'd0 : a[26:0];
  wire signed [26:0] d_gated = inmode[2] ? d : 27'd0;
  wire signed [26:0] sum = inmode[3] ? d_gated - a_gated : d_gated + a_gated;
  wire signed [26:0] ad = ADREG == 0 ? sum : adr;
  wire signed [26:0] multiplicand = AMULTSEL == "AD" ? ad : $signed(a[26:0]);
  wire signed [44:0] product = multiplicand * $signed(b);
  wire signed [44:0] m = USE_MULT == "NONE" ? 45'sd0 : MREG == 0 ? product : mr;

  wire [47:0] p_back = PREG == 0 ? 48'd0 : pr;      // there is no feedback without a register
  wire [47:0] m_wide = {{3{m[44]}}, m};
  reg [47:0] w, x, y, z, result;
  always @* begin
    case (opmode[8:7])
      2'b00: w = 48'd0;
      2'b01: w = p_back;
      2'b10: w = RND;
      2'b11: w = c;
    endcase
    case (opmode[1:0])
      2'b00: x = 48'd0;
      2'b01: x = m_wide;
      2'b10: x = p_back;
      2'b11: x = {a, b};
    endcase
    case (opmode[3:2])
      2'b00, 2'b01: y = 48'd0;                      // 01 is the other half of the product: all of it is in x
      2'b10: y = ~48'd0;
      2'b11: y = c;
    endcase
    case (opmode[6:4])
      3'b001: z = PCIN;
      3'b010, 3'b100: z = p_back;
      3'b011: z = c;
      3'b101: z = {{17{PCIN[47]}}, PCIN[47:17]};
      3'b110: z = {{17{p_back[47]}}, p_back[47:17]};
      default: z = 48'd0;
    endcase
    case (alumode)
      4'b0011: result = z - (w + x + y + {47'd0, carry});
      4'b0001: result = ~z + (w + x + y + {47'd0, carry});
      4'b0010: result = ~(z + w + x + y + {47'd0, carry});
      default: result = z + w + x + y + {47'd0, carry};
    endcase
  end
  assign P = PREG == 0 ? result : pr;
  assign PCOUT = P;

  always @(posedge CLK) begin
    if (RSTA) begin a1 <= 0; a2 <= 0; end
    else begin if (CEA1) a1 <= a_in; if (CEA2) a2 <= AREG == 2 ? a1 : a_in; end
    if (RSTB) begin b1 <= 0; b2 <= 0; end
    else begin if (CEB1) b1 <= b_in; if (CEB2) b2 <= BREG == 2 ? b1 : b_in; end
    if (RSTC) cr <= 0; else if (CEC) cr <= C;
    if (RSTD) begin dr <= 0; adr <= 0; end
    else begin if (CED) dr <= D; if (CEAD) adr <= sum; end
    if (RSTM) mr <= 0; else if (CEM) mr <= product;
    if (RSTP) pr <= 0; else if (CEP) pr <= result;
    if (RSTALUMODE) alur <= 0; else if (CEALUMODE) alur <= ALUMODE;
    if (RSTINMODE) inr <= 0; else if (CEINMODE) inr <= INMODE;
    if (RSTCTRL) begin opr <= 0; selr <= 0; end else if (CECTRL) begin opr <= OPMODE; selr <= CARRYINSEL; end
    if (RSTALLCARRYIN) carryr <= 0; else if (CECARRYIN) carryr <= CARRYIN;
    if (alumode[3:2] != 2'b00 || carryinsel != 3'b000 || inmode[0] || inmode[4]
        || (AMULTSEL == "A" && inmode[3:1] != 3'b000))
      $fatal(1, "DSP48E2: ALUMODE %b, CARRYINSEL %b, INMODE %b are not in this model", alumode, carryinsel, inmode);
    if (opmode[1:0] == 2'b01 != (opmode[3:2] == 2'b01) || (PREG == 0 && (opmode[1:0] == 2'b10
        || opmode[6:4] == 3'b010 || opmode[6:4] == 3'b100 || opmode[8:7] == 2'b01)))
      $fatal(1, "DSP48E2: OPMODE %b is not in this model", opmode);
  end
endmodule
