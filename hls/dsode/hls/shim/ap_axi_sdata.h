// One beat of an AXI4-Stream without user, id and destination signals. Stands in where there is no vendor tool.
#pragma once

#include "ap_int.h"

template <int DATA_BITS, int USER_BITS, int ID_BITS, int DESTINATION_BITS>
struct ap_axiu {
    static_assert(DATA_BITS % 8 == 0, "whole bytes");
    static_assert(USER_BITS + ID_BITS + DESTINATION_BITS == 0, "no side channels");
    ap_uint<DATA_BITS> data;
    ap_uint<DATA_BITS / 8> keep, strb;
    ap_uint<1> last;
};
