// The RTL and its netlist (module gate) side by side on the same pseudo-random stimuli, and the DSPs against
// arithmetic. wrong[i] counts the cycles in which output i differed; the first cycles only fill shift registers.
module tb (input logic clk, output logic [31:0] wrong [13]);
  logic [63:0] r = 64'h1234567887654321;
  logic [31:0] t = 0, x;
  logic rst, en, we;
  logic [11:0] address;
  assign rst = t < 4 || (r[40:37] == 0 && t[6]);
  assign en = r[33] | r[36];
  assign we = r[34];
  assign x = r[31:0];
  assign address = r[60:49] & {12{r[35]}} | 12'(r[52:49]);     // often low, so that writes are read again
  always_ff @(posedge clk) begin
    t <= t + 1;
    r <= {r[62:0], 1'b0} ^ (r[63] ? 64'h1b : 64'h0) ^ (r << 13) ^ (r >> 7);
  end

  logic [15:0] count_r, count_g;
  logic [15:0] mac_r, mac_g;
  logic [19:0] product_r, product_g;
  logic [7:0] lutram_r, lutram_g;
  logic [7:0] delayed_r, delayed_g;
  logic [0:0] picked_r, picked_g;
  logic [35:0] bram_r, bram_g;
  logic [7:0] narrow_r, narrow_g;
  logic [31:0] bytes_r, bytes_g;
  logic [71:0] uram_r, uram_g;
  logic [3:0] rom_r, rom_g;
  logic [47:0] cascade_r, cascade_g;
  dut dut (.clk, .rst, .en, .we, .x, .address, .count(count_r), .mac(mac_r), .product(product_r),
    .lutram(lutram_r), .delayed(delayed_r), .picked(picked_r), .bram(bram_r), .narrow(narrow_r),
    .bytes(bytes_r), .uram(uram_r), .rom(rom_r), .cascade(cascade_r));
  gate gate (.clk, .rst, .en, .we, .x, .address, .count(count_g), .mac(mac_g), .product(product_g),
    .lutram(lutram_g), .delayed(delayed_g), .picked(picked_g), .bram(bram_g), .narrow(narrow_g),
    .bytes(bytes_g), .uram(uram_g), .rom(rom_g), .cascade(cascade_g));

  logic signed [47:0] first [5], second [4];
  always_ff @(posedge clk) begin
    first[0] <= (48'(signed'(x[15:0])) + 48'(signed'(x[31:16]))) * 48'(signed'(address)) + 48'sd1024;
    second[0] <= (48'(signed'(x[23:8])) + 48'(signed'(x[7:0]))) * 48'(signed'(x[31:20]));
    for (int i = 1; i < 5; i++) first[i] <= first[i-1];
    for (int i = 1; i < 4; i++) second[i] <= second[i-1];
  end

  initial for (int i = 0; i < 13; i++) wrong[i] = 0;
  always_ff @(posedge clk) if (t > 40) begin
    if (count_r != count_g) wrong[0] <= wrong[0] + 1;
    if (mac_r != mac_g) wrong[1] <= wrong[1] + 1;
    if (product_r != product_g) wrong[2] <= wrong[2] + 1;
    if (lutram_r != lutram_g) wrong[3] <= wrong[3] + 1;
    if (delayed_r != delayed_g) wrong[4] <= wrong[4] + 1;
    if (picked_r != picked_g) wrong[5] <= wrong[5] + 1;
    if (bram_r != bram_g) wrong[6] <= wrong[6] + 1;
    if (narrow_r != narrow_g) wrong[7] <= wrong[7] + 1;
    if (bytes_r != bytes_g) wrong[8] <= wrong[8] + 1;
    if (uram_r != uram_g) wrong[9] <= wrong[9] + 1;
    if (rom_r != rom_g) wrong[10] <= wrong[10] + 1;
    if (cascade_r != cascade_g) wrong[11] <= wrong[11] + 1;
    if (cascade_g != first[4] + second[3]) wrong[12] <= wrong[12] + 1;
  end
endmodule
