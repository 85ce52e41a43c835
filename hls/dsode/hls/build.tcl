# Vitis HLS: simulation, synthesis and IP package of the kernel in this folder.
# Not run with vendor tools: written after their documentation.
#
#     vitis_hls -f build.tcl          (or: vitis-run --mode hls --tcl build.tcl)

set here [file dirname [file normalize [info script]]]
cd $here

open_project -reset project
set_top dsode
add_files dsode.cpp -cflags "-I$here"
add_files -tb testbench.cpp -cflags "-I$here"

open_solution -reset solution -flow_target vivado
set_part @PART@
create_clock -period @CLOCK_NS@ -name default

if {[file exists states.bin]} {
    csim_design -argv "$here/states.bin $here/results.bin $here/expected.bin"
}
csynth_design
export_design -format ip_catalog -ipname dsode -version 1.0
exit
