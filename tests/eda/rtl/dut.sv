package dut_pkg;
  function automatic logic signed [15:0] clip(input logic signed [21:0] v);
    return v > 22'sd32767 ? 16'sd32767 : v < -22'sd32768 ? -16'sd32768 : v[15:0];
  endfunction
endpackage
// One of everything that is mapped to a cell of its own; tests/eda/conftest.py counts it by hand.
module dut import dut_pkg::*; #(parameter int TAPS [3] = '{3, -5, 7}) (
  input logic clk, input logic rst, input logic en, input logic we,
  input logic [31:0] x, input logic [11:0] address,
  output logic [15:0] count, output logic signed [15:0] mac, output logic signed [19:0] product,
  output logic [7:0] lutram, output logic [7:0] delayed, output logic picked,
  output logic [35:0] bram, output logic [7:0] narrow, output logic [31:0] bytes, output logic [71:0] uram,
  output logic [3:0] rom, output logic [47:0] cascade);
  always_ff @(posedge clk) if (rst) count <= 0; else if (en) count <= count + 16'(x[3:0]) + 1;

  logic signed [7:0] a; logic signed [11:0] b; logic signed [19:0] m;
  assign m = a * b;
  always_ff @(posedge clk) begin
    a <= x[7:0]; b <= x[19:8]; product <= m;
    mac <= rst ? 16'sd0 : clip(22'(mac) + 22'(TAPS[0]) * 22'(a) + 22'(TAPS[1]) * 22'(signed'(x[15:8])));
  end

  (* ram_style = "distributed" *) logic [7:0] l [32];
  always_ff @(posedge clk) if (we) l[address[4:0]] <= x[7:0];
  assign lutram = l[address[9:5]];

  logic [7:0] s [20]; logic [31:0] v;
  always_ff @(posedge clk) begin
    s[0] <= x[15:8]; for (int i = 1; i < 20; i++) s[i] <= s[i-1];
    v <= {v[30:0], x[20]};
  end
  assign delayed = s[19];
  assign picked = v[address[4:0]];

  (* ram_style = "block" *) logic [35:0] r [512];
  (* ram_style = "block" *) logic [7:0] n [2048];
  (* ram_style = "block" *) logic [31:0] w [1024];
  always_ff @(posedge clk) begin
    if (we) r[address[8:0]] <= {x[3:0], x};
    if (en) bram <= r[x[8:0]];
    if (we) n[address[10:0]] <= x[7:0]; else if (en) narrow <= n[address[10:0]];
    for (int i = 0; i < 4; i++) if (we && x[28+i]) w[address[9:0]][8*i +: 8] <= x[8*i +: 8];
    bytes <= w[x[9:0]];
  end

  (* ram_style = "ultra" *) logic [71:0] u [4096];
  always_ff @(posedge clk) begin
    if (we) u[address] <= {x[7:0], x, x};
    if (en) uram <= u[x[11:0]];
  end

  (* rom_style = "block" *) logic [3:0] t [1024];
  initial for (int i = 0; i < 1024; i++) t[i] = 4'(i ^ (i >> 3) ^ (i >> 6));
  always_ff @(posedge clk) rom <= t[address[9:0]];

  logic [47:0] between, unused;
  dsp #(.FIRST(1)) d0 (.clk, .a(27'(signed'(x[15:0]))), .d(27'(signed'(x[31:16]))), .b(18'(signed'(address))),
                       .pcin(48'd0), .pcout(between), .p(unused));
  dsp #(.FIRST(0)) d1 (.clk, .a(27'(signed'(x[23:8]))), .d(27'(signed'(x[7:0]))), .b(18'(signed'(x[31:20]))),
                       .pcin(between), .pcout(), .p(cascade));
endmodule

// The pre-adder, the cascade and all pipeline registers: (a + d) * b + (FIRST ? 1024 : pcin), four cycles.
module dsp #(parameter bit FIRST = 1) (
  input logic clk, input logic [26:0] a, input logic [26:0] d, input logic [17:0] b, input logic [47:0] pcin,
  output logic [47:0] pcout, output logic [47:0] p);
  DSP48E2 #(.AMULTSEL("AD"), .RND(48'd1024), .BREG(2), .BCASCREG(2), .ALUMODEREG(0), .CARRYINREG(0),
            .CARRYINSELREG(0), .INMODEREG(0), .OPMODEREG(0)) slice (
    .CLK(clk), .A({{3{a[26]}}, a}), .B(b), .C(48'd0), .D(d), .PCIN(pcin), .PCOUT(pcout), .P(p),
    .ALUMODE(4'd0), .INMODE(5'b00100), .OPMODE(FIRST ? 9'b10_000_01_01 : 9'b00_001_01_01), .CARRYIN(1'b0),
    .CARRYINSEL(3'd0), .CEA1(1'b1), .CEA2(1'b1), .CEAD(1'b1), .CEALUMODE(1'b1), .CEB1(1'b1), .CEB2(1'b1),
    .CEC(1'b1), .CECARRYIN(1'b1), .CECTRL(1'b1), .CED(1'b1), .CEINMODE(1'b1), .CEM(1'b1), .CEP(1'b1),
    .RSTA(1'b0), .RSTALLCARRYIN(1'b0), .RSTALUMODE(1'b0), .RSTB(1'b0), .RSTC(1'b0), .RSTCTRL(1'b0),
    .RSTD(1'b0), .RSTINMODE(1'b0), .RSTM(1'b0), .RSTP(1'b0), .ACIN(30'd0), .BCIN(18'd0), .CARRYCASCIN(1'b0),
    .MULTSIGNIN(1'b0));
endmodule
