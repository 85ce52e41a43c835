// Clocks the testbench as often as told and prints how often each output was wrong.
#include <cstdio>
#include <cstdlib>

#include "Vtb.h"
#include "verilated.h"

int main(int argc, char** argv) {
  VerilatedContext context;
  context.commandArgs(argc, argv);
  Vtb bench{&context};
  for (long cycle = 0; cycle < std::atol(argv[1]); ++cycle) {
    bench.clk = 0;
    bench.eval();
    bench.clk = 1;
    bench.eval();
  }
  for (int i = 0; i < OUTPUTS; ++i) std::printf("%u\n", bench.wrong[i]);
  return 0;
}
