// The core of a depthwise-separable neural-ODE network on one chip: ODE blocks, and the strided layers between.
//
// States enter and leave as AXI4-Stream beats of BEAT channels, channel 0 in the lowest byte: pixel by pixel in
// raster order, and for each pixel all its channels. TLAST marks the last beat of an image. In between nothing
// leaves the chip: the state and what f gives on the way stand in two banks, the weights once for all steps.
//
// config.hpp and weights.hpp are generated for one network. Written for Vitis HLS; also compiles with g++ and the
// headers in shim/.
#pragma once

#include "ap_axi_sdata.h"
#include "ap_int.h"
#include "hls_stream.h"

#include "config.hpp"

typedef ap_axiu<8 * BEAT, 0, 0, 0> Beat;
typedef ap_int<8> Value;                   // of a state; the unsigned middle of f has at most 7 bits and fits too
typedef ap_uint<4> Inner;                  // between depthwise and pointwise
typedef ap_int<4> Weight;
typedef ap_int<DEPTHWISE_BITS> Depthwise;  // sum of nine products and bias
typedef ap_int<POINTWISE_BITS> Pointwise;  // sum over all inputs and bias
typedef ap_int<SUM_BITS> Sum;              // the same shifted, and a state added

// PE channels of one pixel. Memories hold pixels in raster order, and for each pixel its words.
struct Word {
    Value lane[PE];
};

enum Skip {
    NONE,    // the result replaces what stands in the target bank
    CENTRE,  // add the pixel that the window stands on: f is one convolution
    TARGET   // add what stands in the target bank: the second convolution of f
};

// One separable convolution over one feature map. The target bank is the one that is not the source.
struct Pass {
    int height, width;           // of what is read, pixels
    int in_words, out_words;     // of PE channels, a pixel
    int stride;                  // 1 or 2
    int source;                  // bank
    int depthwise, pointwise;    // first rows in the tables of weights
    int bias;                    // first row in the table of pointwise biases
    Skip skip;
    int low, high;               // limits of the result
};

// Reads `images` states from `input` and writes what the core makes of them to `output`.
void dsode(hls::stream<Beat>& input, hls::stream<Beat>& output, int images);
