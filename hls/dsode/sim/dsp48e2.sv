// Behaviour of the DSP48E2 in the one mode the engine instantiates (AMD UG579): for simulation only.
//     P = W + Z + (A + D) * B     with AREG = DREG = ADREG = MREG = CREG = PREG = 1 and BREG = 2
// A parameter or a control value outside that mode stops the simulation.
module DSP48E2 #(
    parameter AMULTSEL = "A", BMULTSEL = "B", PREADDINSEL = "A", A_INPUT = "DIRECT", B_INPUT = "DIRECT",
    parameter USE_MULT = "MULTIPLY", USE_SIMD = "ONE48",
    parameter [47:0] RND = 48'd0,
    parameter integer AREG = 1, ACASCREG = 1, DREG = 1, ADREG = 1, BREG = 1, BCASCREG = 1, CREG = 1, MREG = 1, PREG = 1,
    parameter integer ALUMODEREG = 1, CARRYINREG = 1, CARRYINSELREG = 1, INMODEREG = 1, OPMODEREG = 1
) (
    input CLK, input [29:0] A, input [17:0] B, input [47:0] C, input [26:0] D, input [47:0] PCIN,
    output [47:0] PCOUT, output [47:0] P,
    input [3:0] ALUMODE, input [4:0] INMODE, input [8:0] OPMODE, input CARRYIN, input [2:0] CARRYINSEL,
    input CEA1, CEA2, CEAD, CEALUMODE, CEB1, CEB2, CEC, CECARRYIN, CECTRL, CED, CEINMODE, CEM, CEP,
    input RSTA, RSTALLCARRYIN, RSTALUMODE, RSTB, RSTC, RSTCTRL, RSTD, RSTINMODE, RSTM, RSTP,
    input [29:0] ACIN, input [17:0] BCIN, input CARRYCASCIN, input MULTSIGNIN
);
    initial if (AREG != 1 || DREG != 1 || ADREG != 1 || BREG != 2 || CREG != 1 || MREG != 1 || PREG != 1
                || AMULTSEL != "AD" || ALUMODE != 0 || INMODE != 5'b00100 || OPMODE[3:0] != 4'b0101
                || OPMODEREG != 0 || CARRYIN != 0) begin
        $display("DSP48E2: a mode that this model does not have");
        $stop;
    end
    reg signed [26:0] a, d, ad;
    reg signed [17:0] b1, b2;
    reg signed [44:0] m;
    reg        [47:0] c, p;
    wire [47:0] z = (OPMODE[6:4] == 3'b001) ? PCIN : (OPMODE[6:4] == 3'b011) ? c : 48'd0;
    wire [47:0] w = (OPMODE[8:7] == 2'b10) ? RND : (OPMODE[8:7] == 2'b11) ? c : 48'd0;
    always @(posedge CLK) begin
        a <= A[26:0];
        d <= D;
        ad <= a + d;
        b1 <= B;
        b2 <= b1;
        m <= ad * b2;
        c <= C;
        p <= w + z + {{3{m[44]}}, m};
    end
    assign P = p;
    assign PCOUT = p;
endmodule
