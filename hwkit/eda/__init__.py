"""Electronic design automation with open tools: what needs no vendor licence.

    yosys       SystemVerilog to a netlist of UltraScale+ cells, kept in the cache
    resources   LUT, FF, DSP, BRAM and URAM of a netlist, and how full a part would be
    levels      logic levels of the longest register-to-register path: a proxy of the clock, not a clock
    netlist     the netlist as Verilog that Verilator can simulate
    fitted      a small model fitted to several syntheses, for designs that were not synthesised
    verilator   simulation of RTL and of netlists

There is no open place and route for these parts: nothing here can say at which clock a design runs.
"""
